using System.Formats.Tar;
using System.Globalization;
using System.Text;
using Panoptes.Checkpoints;
using Panoptes.Imaging;

namespace Panoptes.Data;

/// <summary>How shards are cut.</summary>
public sealed record WebDatasetWriterOptions
{
    /// <summary>A shard is full with so many samples.</summary>
    public int MaxSamples { get; init; } = 10_000;

    /// <summary>A shard is full before its samples have more bytes, unless one sample has more alone.</summary>
    public long MaxBytes { get; init; } = 1L << 30;
}

/// <summary>Writes samples to tar shards that WebDataset, open_clip and <see cref="WebDataset"/> read; the same samples give the same bytes.</summary>
public static class WebDatasetWriter
{
    /// <summary>
    /// Writes <c>shard-000000.tar</c>, <c>shard-000001.tar</c>, … with samples named by a running number: the image as it is, the caption
    /// as <c>.txt</c> and the class as <c>.cls</c> where there are such. Each shard is whole or not there; when writing fails or is
    /// broken off, those already written go too.
    /// </summary>
    /// <returns>The shards' files.</returns>
    /// <exception cref="PanoptesException">The folder holds shards already or cannot be written, there is no sample, or one is no image.</exception>
    public static IReadOnlyList<string> Write(string folder, IEnumerable<ImageSample> samples, WebDatasetWriterOptions? options = null, CancellationToken cancel = default)
    {
        options ??= new();
        if (options.MaxSamples < 1 || options.MaxBytes < 1) throw new PanoptesException($"Shards of {options.MaxSamples} samples and {options.MaxBytes} bytes were asked for, but at least 1 of each was expected.");
        if (Directory.Exists(folder) && Directory.EnumerateFiles(folder, "*.tar").Any()) throw new PanoptesException($"{folder} holds .tar files already; expected a folder without.");
        var shards = new List<string>();
        try
        {
            using var rest = samples.GetEnumerator();
            var (more, number) = (rest.MoveNext(), 0L);
            if (!more) throw new PanoptesException("There is no sample to write.");
            while (more)
            {
                var path = Path.Combine(folder, string.Create(CultureInfo.InvariantCulture, $"shard-{shards.Count:d6}.tar"));
                AtomicFile.Write(path, stream =>
                {
                    using var tar = new TarWriter(stream, TarEntryFormat.Ustar, leaveOpen: true);
                    var (count, bytes) = (0, 0L);
                    for (; more && count < options.MaxSamples && (count == 0 || bytes + rest.Current.Encoded.Length <= options.MaxBytes); more = rest.MoveNext(), count++)
                    {
                        cancel.ThrowIfCancellationRequested();
                        bytes += rest.Current.Encoded.Length;
                        Write(tar, string.Create(CultureInfo.InvariantCulture, $"{number++:d9}"), rest.Current);
                    }
                });
                shards.Add(path);
            }
            return shards;
        }
        catch (Exception)
        {
            foreach (var shard in shards)
            {
                try { File.Delete(shard); }
                catch (Exception inner) when (inner is IOException or UnauthorizedAccessException) { }     // the first error is the one to tell
            }
            throw;
        }
    }

    static void Write(TarWriter tar, string key, ImageSample sample)
    {
        var extension = Image.Identify(sample.Encoded.Span, sample.Name).Format switch
        {
            ImageFormat.Jpeg => "jpg",
            ImageFormat.Png => "png",
            ImageFormat.Webp => "webp",
            ImageFormat.Gif => "gif",
            _ => "bmp",
        };
        Add(extension, sample.Encoded.ToArray());
        if (sample.Text.Length > 0) Add("txt", Encoding.UTF8.GetBytes(sample.Text));
        if (sample.Label >= 0) Add("cls", Encoding.ASCII.GetBytes(sample.Label.ToString(CultureInfo.InvariantCulture)));

        void Add(string kind, byte[] content) => tar.WriteEntry(new UstarTarEntry(TarEntryType.RegularFile, $"{key}.{kind}")
        {
            ModificationTime = DateTimeOffset.UnixEpoch,
            Mode = UnixFileMode.UserRead | UnixFileMode.GroupRead | UnixFileMode.OtherRead,
            DataStream = new MemoryStream(content),
        });
    }
}
