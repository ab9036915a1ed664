namespace Panoptes.Imaging;

/// <summary>The resampling kernels; the numbers are Pillow's and those of <c>resample</c> in preprocessor_config.json.</summary>
public enum ResizeFilter { Nearest = 0, Lanczos = 1, Bilinear = 2, Bicubic = 3, Box = 4, Hamming = 5 }

/// <summary>Whose rounding a resize follows. All are antialiased, horizontal pass first, uint8 after each pass.</summary>
public enum ResizeRounding
{
    /// <summary>Pillow's: coefficients in fixed point with 22 fractional bits.</summary>
    Pillow,

    /// <summary>torchvision's on uint8 tensors (libtorch's <c>_upsample_*_aa</c>): 16-bit coefficients; at most one gray level from Pillow's.</summary>
    Torchvision,
}
