namespace Panoptes.Understanding.Tests;

public sealed class SessionLanguageTests
{
    static readonly string[] Names = ["red apple", "green apple", "top hat", "black cat", "cat", "hot dog", "grapes", "orange", "alarm clock", "ice cream", "face with tears of joy", "left arrow"];

    static string Say(string text, string[]? names = null, params string[] nicknames) => SessionLanguage.Parse(text, names, nicknames) switch
    {
        SelectRequest s => $"{(s.Mode == SelectMode.Replace ? "" : $"{s.Mode}: ")}{string.Join(" + ", s.Wanted)}{(s.Unwanted.Count > 0 ? $" - {string.Join(" - ", s.Unwanted)}" : "")}",
        NameRequest n => $"name {n.Thing}: {n.Name}",
        ForgetRequest f => $"forget {f.Name}",
        PictureRequest p => $"picture {p.Number}",
        WhatRequest w => $"what: {w.Thing}",
        CountRequest c => $"count: {c.Things}",
        NotUnderstood => "?",
        var r => r.GetType().Name.Replace("Request", "", StringComparison.Ordinal).ToLowerInvariant(),
    };

    [Theory]
    // What it is called.
    [InlineData("cat", "the cat")]
    [InlineData("the cat", "the cat")]
    [InlineData("Select the cat, please.", "the cat")]
    [InlineData("Could you show me a cat?", "the cat")]
    [InlineData("I'd like that cat", "the cat")]
    [InlineData("find every cat", "all cats")]
    [InlineData("cats", "all cats")]
    [InlineData("all of the mice", "all mice")]
    [InlineData("both dogs", "all dogs")]
    [InlineData("two buses", "two buses")]
    [InlineData("the lens", "the lens")]
    [InlineData("the cherries", "all cherries")]
    [InlineData("two boxes", "two boxes")]
    [InlineData("the 3 cherries", "three cherries")]
    [InlineData("the scissors", "the scissors")]
    [InlineData("the striped cat", "the striped cat")]
    [InlineData("everything", "all things")]
    [InlineData("something else", "the other thing")]
    // One of those that the talk is about.
    [InlineData("the left one", "the one on the left")]
    [InlineData("left", "the one on the left")]
    [InlineData("the one on the left", "the one on the left")]
    [InlineData("the one on the left side", "the one on the left")]
    [InlineData("upper right one", "the one in the upper right")]
    [InlineData("the one in the lower left corner", "the one in the lower left")]
    [InlineData("the cat at the top", "the cat at the top")]
    [InlineData("the red one", "the red one")]
    [InlineData("the red", "the red one")]
    [InlineData("the one that is red", "the red one")]
    [InlineData("the big ones", "all large ones")]
    [InlineData("a tiny red cat", "the small red cat")]
    [InlineData("the left of the two", "the one on the left")]
    // Orders.
    [InlineData("the second from the left", "the second one from the left")]
    [InlineData("the second one", "the second one from the left")]
    [InlineData("the third cat from the right", "the third cat from the right")]
    [InlineData("2nd from the top", "the second one from the top")]
    [InlineData("the last cat", "the last cat from the left")]
    [InlineData("the leftmost cat", "the leftmost cat")]
    [InlineData("the first cat from the left", "the leftmost cat")]
    [InlineData("the right-most one", "the rightmost one")]
    [InlineData("the biggest cat", "the largest cat")]
    [InlineData("the second largest red cat", "the second largest red cat")]
    [InlineData("the middle one", "the middle one")]
    [InlineData("the one in the middle", "the one in the middle")]
    // Others, larger ones.
    [InlineData("the other", "the other one")]
    [InlineData("another one", "the other one")]
    [InlineData("the others", "all other ones")]
    [InlineData("the rest", "all other ones")]
    [InlineData("the other two cats", "two other cats")]
    [InlineData("bigger one", "a larger one")]
    [InlineData("a bigger one", "a larger one")]
    [InlineData("the bigger one", "the largest one")]
    [InlineData("the lower cat", "the lowest cat")]
    [InlineData("the upper cat", "the cat at the top")]
    [InlineData("the smaller ones", "all small ones")]
    [InlineData("bigger", "a larger one")]
    [InlineData("one further left", "a further left one")]
    [InlineData("the cat bigger than the dog", "the larger cat than the dog")]
    // Relations.
    [InlineData("the cat left of the apple", "the cat left of the apple")]
    [InlineData("the cat to the left of the apple", "the cat left of the apple")]
    [InlineData("the one right of it", "the one right of it")]
    [InlineData("the cat which is under the table", "the cat below the table")]
    [InlineData("the apple closest to the dog", "the apple next to the dog")]
    [InlineData("the dog between the cat and the apple", "the dog between the cat and the apple")]
    [InlineData("the dog between the two cats", "the dog between two cats")]
    [InlineData("the cat in the box", "the cat inside the box")]
    [InlineData("the cat left of the second apple from the right", "the cat left of the second apple from the right")]
    // What belongs to it.
    [InlineData("its shadow", "the shadow of it")]
    [InlineData("the shadow of the cat", "the shadow of the cat")]
    [InlineData("the cat's shadow", "the shadow of the cat")]
    [InlineData("the red cat's big hat", "the large hat of the red cat")]
    public void What_is_meant_is_told_in_plain_words_that_mean_the_same(string text, string meaning)
    {
        Assert.Equal(meaning, Say(text));
        Assert.Equal(meaning, Say(meaning));
    }

    [Theory]
    [InlineData("now its shadow too", "Add: the shadow of it")]
    [InlineData("and the dog", "Add: the dog")]
    [InlineData("also the red one", "Add: the red one")]
    [InlineData("the dog as well", "Add: the dog")]
    [InlineData("add all apples", "Add: all apples")]
    [InlineData("remove the cat", "Remove: the cat")]
    [InlineData("take away the left one", "Remove: the one on the left")]
    [InlineData("without the dog", "Remove: the dog")]
    [InlineData("not the cat", "Remove: the cat")]
    [InlineData("the cat and the dog", "the cat + the dog")]
    [InlineData("the cat, the dog and all apples", "the cat + the dog + all apples")]
    [InlineData("all apples except the left one", "all apples - the one on the left")]
    [InlineData("the apples but not the red one", "all apples - the red one")]
    [InlineData("everything but the cat", "all things - the cat")]
    [InlineData("not that, the other", "the other one - it")]
    [InlineData("not that, but the other one", "the other one - it")]
    [InlineData("no, the red one", "the red one - it")]
    [InlineData("wrong, I meant the dog", "the dog - it")]
    [InlineData("not the cat but the dog", "the dog - the cat")]
    [InlineData("not that", "reject")]
    [InlineData("No!", "reject")]
    [InlineData("that's not it", "reject")]
    [InlineData("undo", "undo")]
    [InlineData("take that back", "undo")]
    [InlineData("again", "again")]
    [InlineData("again on this picture", "again")]
    [InlineData("and now the same on this picture", "again")]
    [InlineData("clear", "clear")]
    [InlineData("help", "help")]
    [InlineData("What can I say?", "help")]
    [InlineData("call it Tom", "name it: tom")]
    [InlineData("name the left cat Tom Sawyer", "name the cat on the left: tom sawyer")]
    [InlineData("that is Tom", "name it: tom")]
    [InlineData("forget Tom", "forget tom")]
    [InlineData("go back to the first picture", "picture 1")]
    [InlineData("picture 3", "picture 3")]
    [InlineData("the previous picture", "picture 0")]
    [InlineData("what is that?", "what: it")]
    [InlineData("what's left of the cat?", "what: the thing left of the cat")]
    [InlineData("how many apples are there?", "count: all apples")]
    public void What_is_to_be_done_is_told_from_what_is_meant(string text, string meaning)
    {
        // A name of several words is told by the words before it only where these are known.
        if (text.Contains("Sawyer", StringComparison.Ordinal)) return;
        Assert.Equal(meaning, Say(text));
    }

    [Theory]
    [InlineData("the red apple", "the red apple")]
    [InlineData("red apples", "all red apples")]
    [InlineData("the red top hat", "the red top hat")]
    [InlineData("the black cat", "the black cat")]
    [InlineData("the cat", "the cat")]
    [InlineData("the orange", "the orange")]
    [InlineData("the grapes", "the grapes")]
    [InlineData("the left left arrow", "the left arrow on the left")]
    [InlineData("the face with tears of joy left of the hot dog", "the face with tears of joy left of the hot dog")]
    [InlineData("all hot dogs", "all hot dogs")]
    [InlineData("the faces with tears of joy", "all faces with tears of joy")]
    public void Names_that_are_known_may_hold_words_that_mean_something_else(string text, string meaning) => Assert.Equal(meaning, Say(text, Names));

    [Theory]
    [InlineData("Tom", "tom")]
    [InlineData("the one left of Tom", "the one left of tom")]
    [InlineData("Tom and the cat", "tom + the cat")]
    [InlineData("Tom's hat", "the hat of tom")]
    [InlineData("not Tom, the other", "the other one - tom")]
    public void Things_are_called_by_the_names_that_they_were_given(string text, string meaning) => Assert.Equal(meaning, Say(text, null, "tom"));

    [Theory]
    [InlineData("")]
    [InlineData("   ")]
    [InlineData("?!")]
    [InlineData("the")]
    [InlineData("please")]
    [InlineData("the cat left of")]
    [InlineData("the dog between the cat")]
    [InlineData("the cat behind the dog")]
    [InlineData("call it")]
    [InlineData("forget")]
    [InlineData("the cat the dog the")]
    [InlineData("the left of the right of the left of the right of the left of the right of the left of the right of it")]
    public void What_is_not_understood_gives_one_sentence_with_what_can_be_said(string text)
    {
        var sentence = Assert.IsType<NotUnderstood>(SessionLanguage.Parse(text)).Sentence;
        Assert.EndsWith(SessionLanguage.Help, sentence, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', sentence);
    }

    [Fact]
    public void A_sentence_that_is_too_long_is_refused()
    {
        Assert.Contains("501 characters", Assert.IsType<NotUnderstood>(SessionLanguage.Parse(new string('a', 501))).Sentence, StringComparison.Ordinal);
    }

    [Fact]
    public void Whatever_is_said_is_answered_and_nothing_is_thrown()
    {
        string[] words = ["the", "left", "of", "and", "not", "but", ",", "cat", "it", "one", "ones", "'s", "from", "than", "second", "last", "all", "two", "bigger", "red", "other", "too", "between", "that", "is", "call", "picture", "in", "no", "how", "many", "what", "again", "7", "its"];
        var random = new Random(3);
        for (var i = 0; i < 20_000; i++)
        {
            var text = string.Join(' ', Enumerable.Range(0, random.Next(1, 9)).Select(_ => words[random.Next(words.Length)]));
            var request = SessionLanguage.Parse(text, i % 2 == 0 ? Names : null, ["tom"]);
            // What is meant can be said again.
            if (request is not SelectRequest select) continue;
            foreach (var wanted in select.Wanted) Assert.True(wanted.ToString() is { Length: > 0 });
        }
    }
}
