namespace Panoptes.Data.Emoji;

/// <summary>One drawing style of the bundled set and the package that it comes from.</summary>
/// <param name="Name">The style's short name, which is also its file's.</param>
/// <param name="Package">The pinned package.</param>
/// <param name="HeldOut">Whether no model is ever trained on it.</param>
/// <param name="Copyright">The line that its license asks to be kept.</param>
public sealed record EmojiSource(string Name, NpmPackage Package, string Copyright, bool HeldOut = false);

/// <summary>What the bundled emoji set is made of. Changing a version here changes the set: rebuild it and look at it.</summary>
public static class EmojiSources
{
    /// <summary>Names, tags, groups and subgroups of Unicode CLDR.</summary>
    public static NpmPackage Names { get; } = new("emojibase-data", "17.0.0", "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==");

    /// <summary>The languages that every concept is named in; tags are kept in the first two.</summary>
    public static IReadOnlyList<string> Languages { get; } = ["en", "zh", "ja", "ko", "de", "fr", "es", "pt", "it", "ru"];

    /// <summary>The ten styles, the held-out one last.</summary>
    public static IReadOnlyList<EmojiSource> Styles { get; } =
    [
        new("noto", Icons("noto", "1.2.9", "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw=="), "Copyright Google Inc."),
        new("noto-v1", Icons("noto-v1", "1.2.5", "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA=="), "Copyright Google Inc."),
        new("twemoji", Icons("twemoji", "1.2.5", "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw=="), "Copyright Twitter, Inc. and other contributors"),
        new("emojione", Icons("emojione", "1.2.3", "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg=="), "Copyright Emoji One and the EmojiTwo contributors"),
        new("emojione-v1", Icons("emojione-v1", "1.2.3", "UjI2VQEXVtGlPBvQuxEizro7QCgBcJDOYwKUupquvvZ8UV4xOlvm45IU82JYWegiAWLerY79gFLMZ26U6Ms+ww=="), "Copyright Emoji One"),
        new("fluent-emoji", Icons("fluent-emoji", "1.2.7", "D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA=="), "Copyright (c) Microsoft Corporation."),
        new("fluent-emoji-flat", Icons("fluent-emoji-flat", "1.2.6", "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw=="), "Copyright (c) Microsoft Corporation."),
        new("fxemoji", Icons("fxemoji", "1.2.2", "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ=="), "Copyright Mozilla Foundation and contributors"),
        new("streamline-emojis", Icons("streamline-emojis", "1.2.4", "iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A=="), "Copyright Streamline"),
        new("openmoji", Icons("openmoji", "1.2.29", "vXdhkqcXVSO6suy+m9LbcUM3OdVyuNOtpV8/als/WqfkQIRxevL5Geb/g+6GH/Qwnq1OqksEmaDGTCmZ5nFKJQ=="), "Copyright the OpenMoji project", HeldOut: true),
    ];

    static NpmPackage Icons(string name, string version, string integrity) => new("@iconify-json/" + name, version, integrity);
}
