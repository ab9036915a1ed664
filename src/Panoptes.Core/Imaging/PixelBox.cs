namespace Panoptes.Imaging;

/// <summary>A box of whole pixels: columns <see cref="X"/> to <see cref="Right"/> - 1, rows <see cref="Y"/> to <see cref="Bottom"/> - 1.</summary>
public readonly record struct PixelBox(int X, int Y, int Width, int Height)
{
    public int Right => X + Width;

    public int Bottom => Y + Height;

    public int Area => Width * Height;

    /// <summary>The middle, in pixels from the image's left edge.</summary>
    public float CenterX => X + (Width / 2f);

    /// <summary>The middle, in pixels from the image's upper edge.</summary>
    public float CenterY => Y + (Height / 2f);

    public bool Contains(int x, int y) => x >= X && x < Right && y >= Y && y < Bottom;

    public bool Overlaps(PixelBox other) => X < other.Right && other.X < Right && Y < other.Bottom && other.Y < Bottom;
}
