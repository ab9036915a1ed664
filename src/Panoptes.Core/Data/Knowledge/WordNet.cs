using System.Buffers.Text;
using System.Globalization;
using System.Text;

namespace Panoptes.Data.Knowledge;

/// <summary>The four parts of speech that WordNet has files of.</summary>
public enum WordNetPart { Noun, Verb, Adjective, Adverb }

/// <summary>A meaning: the words that share it and what they mean.</summary>
public sealed record Synset
{
    /// <summary>Whose file it is in.</summary>
    public required WordNetPart Part { get; init; }

    /// <summary>Where its line begins in that file, in bytes: its identity.</summary>
    public required int Offset { get; init; }

    /// <summary>The lexicographers' file, a coarse topic such as <c>noun.food</c>.</summary>
    public required string Category { get; init; }

    /// <summary>The words that have this meaning, the usual one first, with spaces in those of several words.</summary>
    public required IReadOnlyList<string> Words { get; init; }

    /// <summary>What it means.</summary>
    public required string Definition { get; init; }

    /// <summary>The definition and the examples after it.</summary>
    public required string Gloss { get; init; }

    /// <summary>Meanings that this is a kind or an instance of; empty for adjectives and adverbs.</summary>
    public required IReadOnlyList<(WordNetPart Part, int Offset)> Hypernyms { get; init; }
}

/// <summary>
/// Princeton's WordNet read from its own files as wndb(5WN) describes them: <c>index.noun</c> (word to meanings, the most frequent first),
/// <c>data.noun</c> (one meaning a line) and, where there is one, <c>noun.exc</c> (irregular forms), and so for <c>verb</c>, <c>adj</c> and <c>adv</c>.
/// </summary>
/// <remarks>
/// Indexes are read at once; a meaning's line is read when it is asked for. Immutable and safe for any number of threads. Whatever is in the
/// files, reading them takes time and memory in proportion to their size.
/// </remarks>
public sealed class WordNet
{
    /// <summary>The longest file that is read; the longest of WordNet 3.1 has 15 MB.</summary>
    const int MaxBytes = 1 << 26;

    /// <summary>The longest line of a meaning; the longest of WordNet 3.1 has 15 KB.</summary>
    const int MaxLine = 1 << 16;

    /// <summary>More steps up than there are in WordNet 3.1, and an end to circles.</summary>
    const int MaxDepth = 32;

    /// <summary>lexnames(5WN): the lexicographers' files by their numbers.</summary>
    static readonly string[] Categories =
    [
        "adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact", "noun.attribute", "noun.body", "noun.cognition",
        "noun.communication", "noun.event", "noun.feeling", "noun.food", "noun.group", "noun.location", "noun.motive", "noun.object", "noun.person",
        "noun.phenomenon", "noun.plant", "noun.possession", "noun.process", "noun.quantity", "noun.relation", "noun.shape", "noun.state",
        "noun.substance", "noun.time", "verb.body", "verb.change", "verb.cognition", "verb.communication", "verb.competition", "verb.consumption",
        "verb.contact", "verb.creation", "verb.emotion", "verb.motion", "verb.perception", "verb.possession", "verb.social", "verb.stative",
        "verb.weather", "adj.ppl",
    ];

    static readonly string[] Names = ["noun", "verb", "adj", "adv"];

    /// <summary>morphy(7WN)'s rules of detachment: an ending and what stands in its place.</summary>
    static readonly (string Ending, string Instead)[][] Rules =
    [
        [("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y")],
        [("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")],
        [("er", ""), ("est", ""), ("er", "e"), ("est", "e")],
        [],
    ];

    readonly ReadOnlyMemory<byte>[] data = new ReadOnlyMemory<byte>[4];
    readonly Dictionary<string, int[]>[] index = [[], [], [], []];
    readonly Dictionary<string, string[]>[] exceptions = [[], [], [], []];

    WordNet()
    {
    }

    /// <summary>Whether a file of this name is one that is read.</summary>
    public static bool Wants(string name) => Names.Any(n => name == "index." + n || name == "data." + n || name == n + ".exc");

    /// <summary>Reads the files of a folder, WordNet's <c>dict</c>.</summary>
    /// <exception cref="PanoptesException">There are none, or one is damaged or too long.</exception>
    public static WordNet Open(string folder)
    {
        try
        {
            var files = new Dictionary<string, byte[]>(StringComparer.Ordinal);
            foreach (var file in Directory.GetFiles(folder).Where(static f => Wants(Path.GetFileName(f))).Order(StringComparer.Ordinal))
            {
                if (new FileInfo(file).Length is > MaxBytes and var length) throw TooLong(file, length);
                files[Path.GetFileName(file)] = File.ReadAllBytes(file);
            }
            return Parse(files);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"WordNet in {folder} cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Reads the files by their names, such as <c>index.noun</c>. Parts of speech may be missing, but of each both files are needed.</summary>
    /// <exception cref="PanoptesException">There are none, or one is damaged or too long.</exception>
    public static WordNet Parse(IReadOnlyDictionary<string, byte[]> files)
    {
        var read = new WordNet();
        for (var part = 0; part < Names.Length; part++)
        {
            var (indexName, dataName) = ("index." + Names[part], "data." + Names[part]);
            var (hasIndex, hasData) = (files.TryGetValue(indexName, out var lines), files.TryGetValue(dataName, out var meanings));
            if (!hasIndex && !hasData) continue;
            if (!hasIndex || !hasData) throw new PanoptesException($"WordNet has the file {(hasIndex ? indexName : dataName)} without {(hasIndex ? dataName : indexName)}; expected both.");
            foreach (var (name, bytes) in ((string, byte[])[])[(indexName, lines!), (dataName, meanings!)])
                if (bytes.Length > MaxBytes) throw TooLong(name, bytes.Length);
            read.data[part] = meanings;
            ReadIndex(indexName, lines!, read.index[part]);
            if (files.TryGetValue(Names[part] + ".exc", out var irregular)) ReadExceptions(Names[part] + ".exc", irregular, read.exceptions[part]);
        }
        return read.index.Any(static i => i.Count > 0) ? read : throw new PanoptesException("There is no WordNet: expected the files index.noun and data.noun, or those of another part of speech.");
    }

    /// <summary>
    /// The meanings of a word, the most frequent first; empty where it is unknown. The word is taken as it is but for case and spaces; other forms
    /// are found by <see cref="BaseForms"/>.
    /// </summary>
    /// <exception cref="PanoptesException">A file is damaged.</exception>
    public IReadOnlyList<Synset> Senses(string word, WordNetPart part) =>
        index[(int)part].TryGetValue(Key(word), out var offsets) ? [.. offsets.Select(o => Read(part, o))] : [];

    /// <summary>Whether a word has a meaning.</summary>
    public bool Contains(string word, WordNetPart part) => index[(int)part].ContainsKey(Key(word));

    /// <summary>
    /// The words that a word may be a form of and that WordNet knows: itself, irregular ones, and what is left of it by morphy(7WN)'s rules. Of words
    /// of several words the last one is changed.
    /// </summary>
    public IReadOnlyList<string> BaseForms(string word, WordNetPart part)
    {
        var (key, known) = (Key(word), index[(int)part]);
        var forms = new List<string>();
        Add(key);
        if (exceptions[(int)part].TryGetValue(key, out var irregular))
            foreach (var form in irregular) Add(form);
        // "boxesful" is a form of "boxful".
        var (stem, after) = part == WordNetPart.Noun && key.EndsWith("ful", StringComparison.Ordinal) ? (key[..^3], "ful") : (key, "");
        if (stem.Length > 2 && !(part == WordNetPart.Noun && stem.EndsWith("ss", StringComparison.Ordinal)))
            foreach (var (ending, instead) in Rules[(int)part])
                if (stem.Length + instead.Length > ending.Length && stem.EndsWith(ending, StringComparison.Ordinal)) Add(stem[..^ending.Length] + instead + after);
        return forms;

        void Add(string form)
        {
            if (known.ContainsKey(form) && !forms.Contains(form.Replace('_', ' '))) forms.Add(form.Replace('_', ' '));
        }
    }

    /// <summary>What a meaning is a kind of, what that is a kind of, and so on to the most general; where there are several, the first.</summary>
    /// <exception cref="PanoptesException">A file is damaged.</exception>
    public IReadOnlyList<Synset> HypernymChain(Synset synset)
    {
        var chain = new List<Synset>();
        var seen = new HashSet<(WordNetPart, int)> { (synset.Part, synset.Offset) };
        while (synset.Hypernyms.Count > 0 && chain.Count < MaxDepth && seen.Add(synset.Hypernyms[0]))
        {
            synset = Read(synset.Hypernyms[0].Part, synset.Hypernyms[0].Offset);
            chain.Add(synset);
        }
        return chain;
    }

    static string Key(string word) => word.ToLowerInvariant().Replace(' ', '_');

    /// <summary>lemma pos synset_cnt p_cnt [ptr_symbol...] sense_cnt tagsense_cnt synset_offset [synset_offset...]</summary>
    static void ReadIndex(string name, ReadOnlySpan<byte> bytes, Dictionary<string, int[]> index)
    {
        for (var line = 1; !bytes.IsEmpty; line++)
        {
            var fields = new Fields(TakeLine(ref bytes));
            if (fields.IsComment) continue;
            var lemma = fields.Next();
            fields.Next();
            var count = fields.Number(10);
            var pointers = fields.Number(10);
            for (var i = 0; i < pointers && fields.IsGood; i++) fields.Next();
            fields.Number(10);
            fields.Number(10);
            if (!fields.IsGood || count < 1 || count > fields.Left) throw new PanoptesException($"{name}, line {line}: expected a word, its part of speech and counts of meanings and pointers as wndb(5WN) describes them.");
            var offsets = new int[count];
            for (var i = 0; i < count; i++) offsets[i] = fields.Number(10);
            if (!fields.IsGood) throw new PanoptesException($"{name}, line {line}: expected {count} places of meanings.");
            index.TryAdd(Encoding.UTF8.GetString(lemma), offsets);
        }
    }

    /// <summary>A form and the words that it is a form of.</summary>
    static void ReadExceptions(string name, ReadOnlySpan<byte> bytes, Dictionary<string, string[]> exceptions)
    {
        if (bytes.Length > MaxBytes) throw TooLong(name, bytes.Length);
        while (!bytes.IsEmpty)
        {
            var words = Encoding.UTF8.GetString(TakeLine(ref bytes)).Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (words.Length > 1) exceptions.TryAdd(words[0], words[1..]);
        }
    }

    /// <summary>synset_offset lex_filenum ss_type w_cnt word lex_id [word lex_id...] p_cnt [ptr...] [frames...] | gloss</summary>
    Synset Read(WordNetPart part, int offset)
    {
        var name = "data." + Names[(int)part];
        var bytes = data[(int)part].Span;
        if (offset < 0 || offset >= bytes.Length) throw new PanoptesException($"{name} has {bytes.Length} bytes, but a meaning at {offset} was asked for.");
        var rest = bytes.Slice(offset, Math.Min(MaxLine, bytes.Length - offset));
        var line = TakeLine(ref rest);
        var bar = line.IndexOf(" | "u8);
        var fields = new Fields(bar < 0 ? line : line[..bar]);
        var (place, category) = (fields.Number(10), fields.Number(10));
        fields.Next();
        var count = fields.Number(16);
        if (!fields.IsGood || place != offset || category < 0 || category >= Categories.Length || count < 1)
            throw new PanoptesException($"{name} has at byte {offset} no meaning as wndb(5WN) describes it.");
        var words = new List<string>();
        for (var i = 0; i < count && fields.IsGood; i++)
        {
            words.Add(Word(fields.Next()));
            fields.Next();
        }
        var pointers = fields.Number(10);
        var hypernyms = new List<(WordNetPart, int)>();
        for (var i = 0; i < pointers && fields.IsGood; i++)
        {
            var symbol = fields.Next();
            var target = fields.Number(10);
            var kind = fields.Next();
            fields.Next();
            if (symbol.SequenceEqual("@"u8) || symbol.SequenceEqual("@i"u8)) hypernyms.Add((kind.SequenceEqual("v"u8) ? WordNetPart.Verb : WordNetPart.Noun, target));
        }
        if (!fields.IsGood) throw new PanoptesException($"{name} has at byte {offset} a meaning with fewer words or pointers than it says.");
        var gloss = bar < 0 ? "" : Encoding.UTF8.GetString(line[(bar + 3)..]).Trim();
        var example = gloss.IndexOf("; \"", StringComparison.Ordinal);
        return new()
        {
            Part = part,
            Offset = offset,
            Category = Categories[category],
            Words = words,
            Definition = example < 0 ? gloss : gloss[..example].TrimEnd(),
            Gloss = gloss,
            Hypernyms = hypernyms,
        };
    }

    /// <summary>Without underscores, and without the mark of where an adjective may stand, such as <c>(p)</c>.</summary>
    static string Word(ReadOnlySpan<byte> field)
    {
        var mark = field.IndexOf((byte)'(');
        return Encoding.UTF8.GetString(mark > 0 ? field[..mark] : field).Replace('_', ' ');
    }

    static ReadOnlySpan<byte> TakeLine(ref ReadOnlySpan<byte> bytes)
    {
        var end = bytes.IndexOf((byte)'\n');
        var line = end < 0 ? bytes : bytes[..end];
        bytes = end < 0 ? [] : bytes[(end + 1)..];
        return line.TrimEnd((byte)'\r');
    }

    static PanoptesException TooLong(string file, long length) => new($"{file} has {length.ToString("N0", CultureInfo.InvariantCulture)} bytes; files of WordNet with at most {MaxBytes:N0} are read.");

    /// <summary>The fields of a line, between single spaces. A field that is not there or no number is remembered instead of thrown.</summary>
    ref struct Fields(ReadOnlySpan<byte> line)
    {
        ReadOnlySpan<byte> rest = line;

        public bool IsGood { get; private set; } = true;

        /// <summary>The license at the beginning of each file is indented.</summary>
        public readonly bool IsComment => rest.IsEmpty || rest[0] == ' ';

        /// <summary>Bytes that are left: no fewer than the fields.</summary>
        public readonly int Left => rest.Length;

        public ReadOnlySpan<byte> Next()
        {
            var end = rest.IndexOf((byte)' ');
            var field = end < 0 ? rest : rest[..end];
            rest = end < 0 ? [] : rest[(end + 1)..];
            if (field.IsEmpty) IsGood = false;
            return field;
        }

        public int Number(int radix)
        {
            var field = Next();
            var isNumber = Utf8Parser.TryParse(field, out int value, out var used, radix == 16 ? 'x' : 'D') && used == field.Length && value >= 0;
            if (!isNumber) IsGood = false;
            return isNumber ? value : -1;
        }
    }
}
