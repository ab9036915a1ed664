using System.Runtime.Intrinsics;

namespace Panoptes.Data;

/// <summary>Draws what lies behind a transparent image, from the sample's own random stream.</summary>
sealed class Backgrounds(BackgroundMix mix, int size)
{
    const int MaxCells = 32;

    static readonly Vector128<float> White = Vector128.Create(1f);

    readonly float total = mix.White + mix.Plain + mix.Gradient + mix.Textured + mix.Photographic;

    [ThreadStatic] static Vector128<float>[]? grid;

    [ThreadStatic] static (int Cell, Vector128<float> At)[]? cells;

    /// <summary>Fills [size, size] colors, red, green, blue in [0, 1] and an unused fourth, and tells what it drew.</summary>
    internal SceneStuff Draw(Span<Vector128<float>> canvas, ref SampleRandom random)
    {
        var choice = random.NextFloat() * total;
        if ((choice -= mix.White) < 0) canvas.Fill(White);
        else if ((choice -= mix.Plain) < 0) canvas.Fill(Color(ref random));
        else if ((choice -= mix.Gradient) < 0)
        {
            Gradient(canvas, Color(ref random), Color(ref random), random.Next(0, 2 * MathF.PI));
            return SceneStuff.Gradient;
        }
        else if (choice - mix.Textured < 0)
        {
            Texture(canvas, ref random);
            return SceneStuff.Texture;
        }
        else
        {
            if (mix.Photographs.Count > 0) Photograph(canvas, mix.Photographs[random.Next(mix.Photographs.Count)], ref random);
            else Photographic(canvas, ref random);
            return SceneStuff.Photograph;
        }
        return SceneStuff.Plain;
    }

    static Vector128<float> Color(ref SampleRandom random) => Vector128.Create(random.NextFloat(), random.NextFloat(), random.NextFloat(), 0);

    void Gradient(Span<Vector128<float>> canvas, Vector128<float> from, Vector128<float> to, float angle)
    {
        // Along the angle, from one corner's projection to the opposite one's.
        var (dx, dy) = (MathF.Cos(angle), MathF.Sin(angle));
        var reach = (MathF.Abs(dx) + MathF.Abs(dy)) * size;
        var step = (to - from) * Vector128.Create(dx / reach);
        for (var y = 0; y < size; y++)
        {
            var start = 0.5f + (((y + 0.5f - (size / 2f)) * dy) + ((0.5f - (size / 2f)) * dx)) / reach;
            var color = from + ((to - from) * Vector128.Create(start));
            foreach (ref var pixel in canvas.Slice(y * size, size))
            {
                pixel = color;
                color += step;
            }
        }
    }

    void Texture(Span<Vector128<float>> canvas, ref SampleRandom random)
    {
        var (from, to) = (Color(ref random), Color(ref random));
        canvas.Fill((from + to) * Vector128.Create(0.5f));
        var cells = 3 + random.Next(14);
        AddNoise(canvas, cells, cells, (to - from) * Vector128.Create(0.5f), false, ref random);
        AddNoise(canvas, 2 * cells, 2 * cells, (to - from) * Vector128.Create(0.25f), false, ref random);
        Clamp(canvas);
    }

    void Photographic(Span<Vector128<float>> canvas, ref SampleRandom random)
    {
        // Photographs have a spectrum of about 1/f, mostly in brightness and less in color, light from above and darker corners.
        var sky = Color(ref random);
        var light = random.Next(0.35f, 1);
        Gradient(canvas, (sky * Vector128.Create(0.5f)) + Vector128.Create(0.45f * light), sky * Vector128.Create(0.6f), (MathF.PI / 2) + random.Next(-0.5f, 0.5f));
        var amplitude = random.Next(0.15f, 0.45f);
        for (var cells = 2; cells <= MaxCells; cells *= 2, amplitude *= 0.6f)
        {
            var stretch = cells < MaxCells ? 1 + random.Next(2) : 1;
            AddNoise(canvas, cells * stretch, cells, Vector128.Create(amplitude), false, ref random);
            if (cells <= 8) AddNoise(canvas, cells, cells, Vector128.Create(amplitude * 0.5f), true, ref random);
        }
        var corners = random.Next(0, 0.5f);
        var center = (size - 1) / 2f;
        for (var y = 0; y < size; y++)
        {
            var v = (y - center) / size;
            var row = canvas.Slice(y * size, size);
            for (var x = 0; x < row.Length; x++)
            {
                var u = (x - center) / size;
                row[x] *= Vector128.Create(1 - (corners * 2 * ((u * u) + (v * v))));
            }
        }
        Clamp(canvas);
    }

    /// <summary>Adds smooth noise of columns x rows cells: random values at the cells' corners, bilinear between, with smoothed steps.</summary>
    void AddNoise(Span<Vector128<float>> canvas, int columns, int rows, Vector128<float> amplitude, bool colored, ref SampleRandom random)
    {
        columns = Math.Min(columns, MaxCells);
        rows = Math.Min(rows, MaxCells);
        var values = (grid ??= new Vector128<float>[(MaxCells + 1) * (MaxCells + 2)]).AsSpan();
        var corners = values[..((MaxCells + 1) * (MaxCells + 1))];
        var line = values[((MaxCells + 1) * (MaxCells + 1))..];
        var stride = columns + 1;
        foreach (ref var corner in corners[..(stride * (rows + 1))])
            corner = (colored ? Color(ref random) - Vector128.Create(0.5f) : Vector128.Create(random.NextFloat() - 0.5f)) * Vector128.Create(2f) * amplitude;

        if (cells is null || cells.Length < size) cells = new (int, Vector128<float>)[size];
        var across = cells.AsSpan(0, size);                                            // the same in every row
        for (var x = 0; x < size; x++) across[x] = Cell(x, columns);
        for (var y = 0; y < size; y++)
        {
            var (row, ty) = Cell(y, rows);
            var upper = corners.Slice(row * stride, stride);
            var lower = corners.Slice((row + 1) * stride, stride);
            for (var c = 0; c < stride; c++) line[c] = upper[c] + ((lower[c] - upper[c]) * ty);
            var target = canvas.Slice(y * size, size);
            for (var x = 0; x < target.Length; x++)
            {
                var (column, tx) = across[x];
                target[x] += line[column] + ((line[column + 1] - line[column]) * tx);
            }
        }

        (int, Vector128<float>) Cell(int pixel, int count)
        {
            var at = (pixel + 0.5f) * count / size;
            var cell = (int)at;
            var t = at - cell;
            return (cell, Vector128.Create(t * t * (3 - (2 * t))));
        }
    }

    void Photograph(Span<Vector128<float>> canvas, RgbImage photo, ref SampleRandom random)
    {
        var side = Math.Min(photo.Width, photo.Height) * random.Next(0.3f, 1);
        var (left, top) = (random.Next(0, photo.Width - side), random.Next(0, photo.Height - side));
        var step = side / size;
        var box = Math.Clamp((int)step, 1, 8);                                        // average where it shrinks
        var weight = Vector128.Create(1f / (255 * box * box));
        for (var y = 0; y < size; y++)
        {
            for (var x = 0; x < size; x++)
            {
                var sum = Vector128<float>.Zero;
                for (var j = 0; j < box; j++)
                {
                    var row = Math.Min((int)(top + ((y + ((j + 0.5f) / box)) * step)), photo.Height - 1) * photo.Width;
                    for (var i = 0; i < box; i++)
                    {
                        var p = 3 * (row + Math.Min((int)(left + ((x + ((i + 0.5f) / box)) * step)), photo.Width - 1));
                        sum += Vector128.Create(photo.Pixels[p], photo.Pixels[p + 1], photo.Pixels[p + 2], 0f);
                    }
                }
                canvas[(y * size) + x] = sum * weight;
            }
        }
    }

    static void Clamp(Span<Vector128<float>> canvas)
    {
        foreach (ref var pixel in canvas) pixel = Vector128.Max(Vector128<float>.Zero, Vector128.Min(pixel, White));
    }
}
