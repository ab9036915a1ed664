using System.Diagnostics;
using System.Text;
using CsCheck;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Parity;
using Panoptes.Text;

namespace Panoptes.Core.Tests.Hostile;

/// <summary>Damaged and hostile tokenizers: one that works or one sentence, in bounded time and memory, whatever the text.</summary>
public sealed class TokenizerMutationTests : IDisposable
{
    const string Text = "A photo of 2 Cats, naïve café 😀 <|endoftext|></s>[SEP]\r\n ﬁ 中文 don't\u0301";

    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    public static TheoryData<string> Folders => [.. Goldens.Names("language", static n => n.StartsWith("tokenizer_", StringComparison.Ordinal))];

    [Theory, MemberData(nameof(Folders))]
    public void A_damaged_tokenizer_json_is_a_tokenizer_or_one_sentence(string name)
    {
        byte[][] seeds = [File.ReadAllBytes(Path.Combine(Goldens.Root, name, "tokenizer.json"))];
        Mutation.OfJson(seeds).Sample(bytes => { Try("tokenizer.json", bytes); }, iter: 200, threads: 1, print: Mutation.Print);
    }

    [Fact]
    public void The_parts_of_a_tokenizer_json_with_any_fields_are_a_tokenizer_or_one_sentence()
    {
        // Small, so that every field is hit often; and every kind of part is here.
        byte[][] seeds = [.. new[]
        {
            """{"normalizer":{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Lowercase"},{"type":"Replace","pattern":{"Regex":"\\s+|(?=a)b*"},"content":" "},{"type":"Strip","strip_left":true,"strip_right":false},{"type":"Prepend","prepend":"_"},{"type":"Nmt"}]},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\p{L}+|[^a-z]++"},"behavior":"Isolated","invert":false},{"type":"Digits","individual_digits":true},{"type":"Punctuation","behavior":"MergedWithNext"},{"type":"FixedLength","length":5}]},"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"<unk>":3,"<0x41>":4},"merges":[["a","b"]],"unk_token":"<unk>","continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":true,"byte_fallback":true,"ignore_merges":true},"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"a","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"a":{"id":"a","ids":[0],"tokens":["a"]}}},"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"_"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0},{"type":"CTC","pad_token":"<pad>","word_delimiter_token":"|","cleanup":true}]},"added_tokens":[{"id":5,"content":"<s>","single_word":true,"lstrip":true,"rstrip":true,"normalized":true,"special":true}],"truncation":{"max_length":9,"direction":"Left"},"padding":{"pad_id":3,"direction":"Left"}}""",
            """{"normalizer":{"type":"BertNormalizer","lowercase":true,"strip_accents":null},"pre_tokenizer":{"type":"BertPreTokenizer"},"model":{"type":"WordPiece","vocab":{"[UNK]":0,"a":1,"##b":2,"photo":3},"unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100},"post_processor":{"type":"BertProcessing","sep":["[SEP]",1],"cls":["[CLS]",2]},"decoder":{"type":"WordPiece","prefix":"##","cleanup":true}}""",
            """{"normalizer":{"type":"Precompiled","precompiled_charsmap":"BAAAAAABAABhYgA="},"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true},"model":{"type":"Unigram","vocab":[["<unk>",0],["a",-1.5],["ab",-2],["▁",-3]],"unk_id":0,"byte_fallback":false},"post_processor":{"type":"RobertaProcessing","sep":["</s>",2],"cls":["<s>",0],"trim_offsets":true,"add_prefix_space":true},"decoder":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always"}}""",
            """{"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true,"use_regex":true},"model":{"type":"WordLevel","vocab":{"a":0,"<unk>":1},"unk_token":"<unk>"},"post_processor":{"type":"ByteLevel","trim_offsets":true},"decoder":{"type":"BPEDecoder","suffix":"</w>"}}""",
        }.Select(Encoding.UTF8.GetBytes)];
        foreach (var seed in seeds) Assert.True(Try("tokenizer.json", seed), Encoding.UTF8.GetString(seed));
        Mutation.OfJson(seeds).Sample(bytes => { Try("tokenizer.json", bytes); }, iter: 800, threads: 1, print: Mutation.Print);
    }

    [Theory]
    [InlineData("vocab.json")]
    [InlineData("merges.txt")]
    [InlineData("tokenizer_config.json")]
    [InlineData("special_tokens_map.json")]
    [InlineData("open_clip_config.json")]
    public void Damaged_files_of_a_CLIP_tokenizer_are_a_tokenizer_or_one_sentence(string name)
    {
        folder.Write("all.txt", "#version: 0.2\nc a\nca t</w>\nd o\n");
        ClipVocabulary.Truncate(folder["all.txt"], 3, folder.Path, 16);
        if (name == "open_clip_config.json") folder.Write(name, """{"model_cfg":{"embed_dim":12,"text_cfg":{"context_length":16,"hf_tokenizer_name":null}}}""");
        byte[][] seeds = [File.ReadAllBytes(folder[name])];
        var others = Directory.GetFiles(folder.Path).Sum(static f => new FileInfo(f).Length);
        (name == "merges.txt" ? Mutation.OfBytes(seeds) : Mutation.OfJson(seeds)).Sample(bytes => { Try(name, bytes, others, whole: true); }, iter: 400, threads: 1, print: Mutation.Print);
    }

    [Fact]
    public void A_damaged_vocab_txt_is_a_tokenizer_or_one_sentence()
    {
        byte[][] seeds = [File.ReadAllBytes(Path.Combine(Goldens.Root, "language", "tokenizer_bert_cased", "vocab.txt"))];
        Mutation.OfBytes(seeds).Sample(bytes => { Try("vocab.txt", bytes, whole: true); }, iter: 400, threads: 1, print: Mutation.Print);
    }

    [Fact]
    public void Rules_that_blow_a_text_up_are_stopped()
    {
        var doubling = string.Join(',', Enumerable.Repeat("""{"type":"Replace","pattern":{"String":"a"},"content":"aaaaaaaa"}""", 20));
        var normalizer = $$$"""{"normalizer":{"type":"Sequence","normalizers":[{{{doubling}}}]},"model":{"type":"WordLevel","vocab":{"a":0,"b":1},"unk_token":"b"}}""";
        Refused(normalizer, "bcda");
        var nested = """{"type":"Replace","pattern":{"String":"a"},"content":"aaaaaaaa"}""";
        for (var i = 0; i < 20; i++) nested = $$$"""{"type":"Sequence","normalizers":[{{{nested}}},{"type":"Replace","pattern":{"String":"a"},"content":"aaaaaaaa"}]}""";
        Refused($$$"""{"normalizer":{{{nested}}},"model":{"type":"WordLevel","vocab":{"a":0,"b":1},"unk_token":"b"}}""", "bcda");
        Refused($$$"""{"decoder":{"type":"Sequence","decoders":[{{{doubling}}}]},"model":{"type":"WordLevel","vocab":{"a":0,"b":1},"unk_token":"b"}}""", "a");
        Refused($$$"""{"normalizer":{"type":"Replace","pattern":{"String":"a"},"content":"{{{new string('x', 20_000)}}}"},"model":{"type":"WordLevel","vocab":{"a":0,"b":1},"unk_token":"b"}}""", new string('a', 20_000));
        var items = string.Join(',', Enumerable.Repeat("""{"SpecialToken":{"id":"s","type_id":0}}""", 2000));
        var ids = string.Join(',', Enumerable.Repeat(0, 20_000));
        Refused($$$"""{"post_processor":{"type":"TemplateProcessing","single":[{{{items}}}],"pair":[],"special_tokens":{"s":{"ids":[{{{ids}}}]} } },"model":{"type":"WordLevel","vocab":{"a":0,"b":1},"unk_token":"b"}}""", "a");

        void Refused(string json, string text)
        {
            var before = GC.GetAllocatedBytesForCurrentThread();
            folder.Write("tokenizer.json", json);
            Assert.Throws<PanoptesException>(() =>
            {
                var tokenizer = Tokenizer.Load(folder.Path);
                tokenizer.Decode(tokenizer.Encode(text));
            });
            Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 64_000_000);
        }
    }

    [Fact]
    public void An_expression_that_backtracks_without_end_is_stopped()
    {
        folder.Write("tokenizer.json", """{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(?!x)(a|aa)+$"},"behavior":"Isolated"},"model":{"type":"WordLevel","vocab":{"a":0,"b":1},"unk_token":"b"}}""");
        var watch = Stopwatch.StartNew();
        Assert.Contains("took more than", Assert.Throws<PanoptesException>(() => Tokenizer.Load(folder.Path).Encode(new string('a', 200) + "b")).Message, StringComparison.Ordinal);
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(10));
    }

    [Fact]
    public void Words_without_end_take_no_longer_than_their_length()
    {
        folder.Write("all.txt", "#version: 0.2\na a\naa aa\nc a\nca t</w>\n");
        ClipVocabulary.Truncate(folder["all.txt"], 4, folder["clip"], 16);
        foreach (var name in (string[])["tokenizer_gpt2", "tokenizer_llama2", "tokenizer_t5", "tokenizer_bert_cased"])
            LinearInLength(Tokenizer.Load(Path.Combine(Goldens.Root, "language", name)), name);
        LinearInLength(Tokenizer.Load(folder["clip"]), "clip");
        LinearInLength(ClipTokenizer.OpenClip(Path.Combine(folder["clip"], "vocab.json"), Path.Combine(folder["clip"], "merges.txt")), "open_clip");
        folder.Write("pieces/tokenizer.json", """{"model":{"type":"WordPiece","vocab":{"[UNK]":0,"a":1,"##a":2},"unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":1000}}""");
        LinearInLength(Tokenizer.Load(folder["pieces"]), "pieces");

        static void LinearInLength(Tokenizer tokenizer, string name)
        {
            foreach (var unit in (string[])["a", "aab", "日本", "😀", "&amp;", "Ã©", " ", "\n", "'s", "1", "e\u0301", "<|endoftext|>"])
            {
                var (small, large) = (Repeat(unit, 4_000), Repeat(unit, 64_000));
                Seconds(small);
                var (few, many) = (Math.Min(Seconds(small), Seconds(small)), Math.Min(Seconds(large), Seconds(large)));
                // Sixteen times the length; what is quadratic takes 256 times as long, and seconds. The machine may be busy with other things.
                Assert.True(many < 80 * few || many < 0.25, $"{name}, '{unit}': {few:0.0000} s and {many:0.0000} s");
            }

            double Seconds(string text)
            {
                var watch = Stopwatch.StartNew();
                tokenizer.Encode(text);
                return watch.Elapsed.TotalSeconds;
            }

            static string Repeat(string unit, int length) => string.Concat(Enumerable.Repeat(unit, length / unit.Length));
        }
    }

    [Fact]
    public void The_cache_of_words_does_not_grow_without_end()
    {
        folder.Write("all.txt", "#version: 0.2\na a\naa aa\n");
        ClipVocabulary.Truncate(folder["all.txt"], 2, folder.Path, 16);
        var tokenizer = Tokenizer.Load(folder.Path);
        Fill(0);                                                                     // all 32,768 places are taken
        var before = GC.GetTotalMemory(forceFullCollection: true);
        Fill(1);
        Fill(2);
        var growth = GC.GetTotalMemory(forceFullCollection: true) - before;
        Assert.True(growth < 4_000_000, $"grew by {growth} bytes");

        void Fill(int round)
        {
            for (var i = 0; i < 100; i++) tokenizer.Encode(string.Join(' ', Enumerable.Range(0, 1500).Select(j => $"w{(char)('a' + round)}{i:x}q{j:x}")));
        }
    }

    /// <summary>Loads the folder's tokenizer with the file in it, and uses it; false where it was refused.</summary>
    bool Try(string name, byte[] bytes, long others = 0, bool whole = false)
    {
        var works = false;
        // The table of ids may be sparse, a cache has its places from the start, and expressions are compiled.
        Mutation.Check(folder[name], bytes, () =>
        {
            var tokenizer = Tokenizer.Load(whole ? folder.Path : folder[name]);
            try
            {
                var ids = tokenizer.Encode(Text);
                tokenizer.Decode(ids);
                tokenizer.Decode(ids, false);
                tokenizer.Decode([0, 1, -1, int.MaxValue]);
                tokenizer.EncodeDetailed(Text, Text, true, new(7));
                tokenizer.Encode(["", Text], 12);
                works = true;
            }
            catch (PanoptesException e)
            {
                Assert.DoesNotContain('\n', e.Message);
            }
        }, alongside: others, constant: 8 << 20);
        return works;
    }
}
