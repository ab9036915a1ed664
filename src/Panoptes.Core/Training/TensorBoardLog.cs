using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Panoptes.Search;

namespace Panoptes.Training;

/// <summary>
/// Scalars in an events file that TensorBoard shows, beside those that earlier parts of the same run left in the folder.
/// </summary>
/// <remarks>
/// TorchSharp's own SummaryWriter serves less: it counts time in ticks since the year 1, or not at all, where TensorBoard expects seconds
/// since 1970, opens the file anew for every number, and cannot go on with a run. The few fields that scalars need of TensorBoard's messages
/// (event.proto, summary.proto) are written directly.
/// Not for several threads at once.
/// </remarks>
public sealed class TensorBoardLog : IDisposable
{
    const string Prefix = "events.out.tfevents.";

    readonly FileStream file;

    /// <param name="folder">Made where it is missing. Every log is a file of its own, so that a record that a kill cut in half stays the last of its file.</param>
    /// <param name="resumeAt">Where a run goes on: what earlier files say of this step and later ones no longer counts. Null for a new run.</param>
    /// <exception cref="PanoptesException">The folder cannot be written.</exception>
    public TensorBoardLog(string folder, long? resumeAt = null)
    {
        try
        {
            Directory.CreateDirectory(folder);
            file = Create(folder);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"{folder} cannot take TensorBoard's events: {e.Message}", e);
        }
        Write(step: 0, field: 3, "brain.Event:2"u8.ToArray());
        if (resumeAt is { } step) Write(step, field: 7, [1 << 3, 1]);                 // session_log { status: START }
        Flush();
    }

    /// <summary>The events file.</summary>
    public string Path => file.Name;

    /// <param name="tag">The curve; what stands before a slash groups curves, as in <c>train/loss</c>.</param>
    /// <param name="step">The place on the horizontal axis.</param>
    /// <param name="value">Kept as float32.</param>
    public void Scalar(string tag, long step, double value)
    {
        var name = Encoding.UTF8.GetBytes(tag);
        var scalar = Message(w => { Bytes(w, 1, name); w.Write((byte)(2 << 3 | 5)); w.Write((float)value); });          // tag, simple_value
        Write(step, field: 5, Message(w => Bytes(w, 1, scalar)));                                                       // summary { value }
    }

    /// <summary>Makes everything so far visible to readers.</summary>
    public void Flush() => file.Flush();

    public void Dispose() => file.Dispose();

    // TensorBoard reads the files of a folder in the order of their names, so a later one must sort last even within one second.
    static FileStream Create(string folder)
    {
        var time = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        foreach (var path in Directory.EnumerateFiles(folder, Prefix + "*"))
        {
            var name = System.IO.Path.GetFileName(path.AsSpan())[Prefix.Length..];
            var digits = name.IndexOf('.') is var dot and >= 0 ? name[..dot] : name;
            if (long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out var earlier) && earlier < 9_999_999_999) time = Math.Max(time, earlier + 1);
        }
        return new(System.IO.Path.Combine(folder, string.Create(CultureInfo.InvariantCulture, $"{Prefix}{time:D10}.panoptes")),
            FileMode.CreateNew, FileAccess.Write, FileShare.Read, 1 << 16);
    }

    // A record (TFRecord): the length and its checksum, the event and its checksum.
    void Write(long step, int field, byte[] content)
    {
        var message = Message(w =>
        {
            w.Write((byte)(1 << 3 | 1));                                             // wall_time
            w.Write((DateTime.UtcNow - DateTime.UnixEpoch).TotalSeconds);
            w.Write((byte)(2 << 3));                                                 // step
            w.Write7BitEncodedInt64(step);
            Bytes(w, field, content);
        });
        Span<byte> header = stackalloc byte[12], footer = stackalloc byte[4];
        BinaryPrimitives.WriteInt64LittleEndian(header, message.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(header[8..], MaskedCrc(header[..8]));
        BinaryPrimitives.WriteUInt32LittleEndian(footer, MaskedCrc(message));
        file.Write(header);
        file.Write(message);
        file.Write(footer);
    }

    static uint MaskedCrc(ReadOnlySpan<byte> bytes) => uint.RotateRight(Crc32C.Of(bytes), 15) + 0xa282ead8;

    // Protocol buffers: before each value the field's number and the kind of the value, 0 a varint, 1 eight bytes, 2 a length and bytes, 5 four bytes.
    static byte[] Message(Action<BinaryWriter> write)
    {
        using var stream = new MemoryStream();
        using (var writer = new BinaryWriter(stream)) write(writer);
        return stream.ToArray();
    }

    static void Bytes(BinaryWriter writer, int field, byte[] value)
    {
        writer.Write((byte)(field << 3 | 2));
        writer.Write7BitEncodedInt(value.Length);
        writer.Write(value);
    }
}
