using System.IO.MemoryMappedFiles;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Panoptes.Native;

namespace Panoptes.Checkpoints;

/// <summary>
/// A file in memory, mapped copy-on-write, and tensors over its bytes without a copy. The mapping lives until its owner has disposed
/// it and the last tensor over it is gone; writing into such a tensor changes a private page, never the file.
/// </summary>
sealed unsafe class MappedFile : IDisposable
{
    // The deleter that libtorch calls knows only the address, so the mapping of each live tensor is found here.
    static readonly Dictionary<nint, (MappedFile File, int Tensors)> Live = [];

    readonly MemoryMappedFile? file;
    readonly MemoryMappedViewAccessor? view;
    readonly byte* start;
    int references = 1;
    bool disposed;

    MappedFile(string path, FileStream stream)
    {
        Path = path;
        Length = stream.Length;
        if (Length == 0) return;                                                    // an empty file cannot be mapped
        file = MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.CopyOnWrite, HandleInheritability.None, leaveOpen: false);
        view = file.CreateViewAccessor(0, Length, MemoryMappedFileAccess.CopyOnWrite);
        byte* pointer = null;
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref pointer);
        start = pointer + view.PointerOffset;
    }

    public string Path { get; }

    /// <summary>Bytes.</summary>
    public long Length { get; }

    /// <exception cref="PanoptesException">There is no such file, or it cannot be read.</exception>
    public static MappedFile Open(string path)
    {
        if (Directory.Exists(path)) throw new PanoptesException($"{path} is a folder; expected a checkpoint file.");
        try
        {
            return new(path, new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, 1));
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new PanoptesException($"{path} does not exist.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new PanoptesException($"{path} cannot be read: {e.Message}", e);
        }
    }

    /// <summary>The bytes from <paramref name="offset"/> on; the caller has checked that they are inside.</summary>
    public ReadOnlySpan<byte> Bytes(long offset, int length)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        return new(start + offset, length);
    }

    /// <summary>A tensor of <paramref name="shape"/> over the bytes at <paramref name="offset"/>; the caller has checked that they are inside.</summary>
    public Tensor Tensor(long offset, ReadOnlySpan<long> shape, ScalarType type, int elementSize)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        long count = 1;
        foreach (var dimension in shape) count *= dimension;
        if (count == 0) return empty(shape.ToArray(), type);
        var data = start + offset;
        if ((nint)data % Math.Min(elementSize, 8) == 0 && NativeTensor.CanWrap)
        {
            Retain((nint)data);
            try
            {
                return NativeTensor.Wrap((nint)data, shape, type, &Release);
            }
            catch
            {
                ReleaseOne((nint)data);
                throw;
            }
        }
        var copy = empty(shape.ToArray(), type);                                     // an unaligned tensor is moved once, in native memory
        Buffer.MemoryCopy(data, (void*)NativeTensor.Data(copy), count * elementSize, count * elementSize);
        return copy;
    }

    public void Dispose()
    {
        if (disposed) return;
        disposed = true;
        Unreference();
    }

    void Retain(nint data)
    {
        lock (Live)
        {
            Live[data] = Live.TryGetValue(data, out var entry) ? (this, entry.Tensors + 1) : (this, 1);
            references++;
        }
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    static void Release(void* data) => ReleaseOne((nint)data);

    static void ReleaseOne(nint data)
    {
        MappedFile owner;
        lock (Live)
        {
            if (!Live.TryGetValue(data, out var entry)) return;
            owner = entry.File;
            if (entry.Tensors == 1) Live.Remove(data);
            else Live[data] = entry with { Tensors = entry.Tensors - 1 };
        }
        owner.Unreference();
    }

    void Unreference()
    {
        lock (Live)
        {
            if (--references > 0) return;
        }
        if (view is null) return;
        view.SafeMemoryMappedViewHandle.ReleasePointer();
        view.Dispose();
        file!.Dispose();
    }
}
