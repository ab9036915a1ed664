using System.Globalization;
using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Objectives;

namespace Panoptes.Parity.Adapters;

/// <summary>diffusers' VQModel and MoVQ.</summary>
sealed class VqModelAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "VQModel" && c.Call == "encode, quantize, decode";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<VqModel>(c.Folder);
        var latents = model.Latents(c.Input("sample"));
        var tokens = model.Quantize.Nearest(latents);
        var entries = model.Quantize.Entries(tokens);
        yield return ("latents", latents);
        yield return ("indices", tokens.flatten());
        yield return ("quantized", VectorQuantizer.StraightThrough(latents, entries));
        yield return ("codebook_entry", entries);
        yield return ("commit_loss", VectorQuantizer.Loss(latents, entries, codebook: 0.25, commitment: 1));
        yield return ("decoded", model.Decode(entries));
        yield return ("decoded_not_quantized", model.Decode(latents));
    }
}

/// <summary>VQ-GAN's own files, and how it is trained.</summary>
sealed class TamingVqganAdapter : IAdapter
{
    const float Scale = 1000;                                                        // of every gradient

    static readonly float[] LpipsShift = [-0.030f, -0.088f, -0.188f], LpipsScale = [0.458f, 0.448f, 0.450f];

    public bool Matches(ParityCase c) => c.Architecture == "VQModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var (config, file, image) = (ModelFolder.ReadConfig<TamingConfig>(c.Folder), c.File("model.safetensors"), c.Input("image"));
        using var model = TamingVqgan.Load(file, config, c.Arguments.GetProperty("norm_num_groups").GetInt32());
        var loss = config.Unknown!["lossconfig"].GetProperty("params");
        VqGanOptions Options(double codebook, double commitment) => new()
        {
            Name = "vq_gan",
            Pixels = PixelError.L1,
            CodebookDecay = null,
            Codebook = codebook,
            Commitment = commitment,
            DiscriminatorWeight = loss.GetProperty("disc_weight").GetDouble(),
            DiscriminatorStart = loss.GetProperty("disc_start").GetInt64(),
            DiscriminatorWidth = loss.GetProperty("disc_ndf").GetInt32(),
            DiscriminatorLayers = loss.GetProperty("disc_num_layers").GetInt32(),
        };
        using var gan = new VqGan(model, null, Options(codebook: 0.25, commitment: 1));     // the code's own, legacy weights
        ModelFolder.Load(gan.Discriminator, file, new() { Prefix = "loss.discriminator.", Ignored = static _ => true });

        var encoded = model.Encoder.Forward(image);
        var latents = model.Latents(image);
        var tokens = model.Quantize.Nearest(latents);
        var entries = model.Quantize.Entries(tokens);
        var decoded = model.Decode(VectorQuantizer.StraightThrough(latents, entries));
        yield return ("encoder", encoded);
        yield return ("pre_quant", latents);
        yield return ("indices", tokens);
        yield return ("quantised", entries);
        yield return ("post_quant", model.PostQuantConv.Forward(entries));
        yield return ("reconstruction", decoded);
        yield return ("disc_logits_real_eval", gan.Discriminator.Forward(image));
        yield return ("disc_logits_fake_eval", gan.Discriminator.Forward(decoded));
        foreach (var (name, codebook, commitment) in ((string, double, double)[])[("", 0.25, 1), ("_not_legacy", 1, 0.25)])
        {
            var (z, e) = (latents.detach().requires_grad_(), model.Quantize.Embedding.Weight.Value);
            var value = VectorQuantizer.Loss(z, model.Quantize.Entries(tokens), codebook, commitment);
            var gradients = autograd.grad([value], [z, e]);
            yield return ("codebook_loss", value);
            yield return ("codebook_loss_grad_latent" + name, gradients[0] * Scale);
            yield return ("codebook_loss_grad_codebook" + name, gradients[1] * Scale);
        }

        gan.Train();
        // One step as a recipe takes it: real, then fake, each by its own statistics.
        using var random = new Generator(1);
        var total = gan.Loss(Towers.Of(model), new([image], []) { Step = c.Arguments.GetProperty("global_step").GetInt64() }, random);
        var wanted = autograd.grad([total], [model.Encoder.ConvIn.Weight.Value, model.Quantize.Embedding.Weight.Value]);
        yield return ("generator_loss", total - gan.Report["discriminator"]);
        yield return ("discriminator_loss", tensor((float)gan.Report["discriminator"]));
        yield return ("adaptive_weight", tensor((float)gan.Report["adversarial_weight"]));
        yield return ("g_loss", tensor((float)gan.Report["adversarial"]));
        yield return ("generator_loss_grad_encoder_conv_in", wanted[0] * Scale);
        yield return ("generator_loss_grad_codebook", wanted[1] * Scale);
        var norm = gan.Discriminator.Main.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter);
        yield return ("bn_running_mean_after", norm["3.running_mean"].Value);
        yield return ("bn_running_var_after", norm["3.running_var"].Value);
        yield return ("generator_loss_before_start", gan.Loss(Towers.Of(model), new([image], []) { Step = c.Arguments.GetProperty("global_step_before_start").GetInt64() }, random));

        var (real, fake) = (gan.Discriminator.Forward(image), gan.Discriminator.Forward(decoded));
        yield return ("disc_logits_real_train", real);
        yield return ("disc_logits_fake_train", fake);
        yield return ("hinge", VqGan.Hinge(real, fake));
        yield return ("vanilla", VqGan.Vanilla(real, fake));
        var (last, nll) = (model.Decoder.ConvOut.Weight.Value, (image - decoded).abs().mean());
        yield return ("nll_loss", nll);
        yield return ("nll_grad_last_layer", autograd.grad([nll], [last], retain_graph: true)[0] * Scale);
        yield return ("g_grad_last_layer", autograd.grad([-fake.mean()], [last], retain_graph: true)[0] * Scale);

        if (!c.HasOutput("lpips")) yield break;
        var lins = SafeTensors.Load(c.File("lpips_lins.safetensors"));
        Tensor[] Maps(int of) => [.. Enumerable.Range(0, lins.Count).Select(i => c.Input(string.Create(CultureInfo.InvariantCulture, $"lpips_features_{of}.{i}")))];
        yield return ("lpips", PerceptualDistance.Of(Maps(0), Maps(1), 1, [.. Enumerable.Range(0, lins.Count).Select(i => lins[string.Create(CultureInfo.InvariantCulture, $"lin{i}.model.1.weight")])]).view(-1, 1, 1, 1));
        var scaled = c.Output("lpips_scaled_input").shape;
        var view = new Renormalization([.. LpipsScale.Select(static s => 1 / s)], [.. LpipsShift.Zip(LpipsScale, static (a, b) => -a / b)]);
        yield return ("lpips_scaled_input", view.Apply(image.narrow(0, 0, scaled[0]).narrow(2, 0, scaled[2]).narrow(3, 0, scaled[3]), (int)scaled[3]));
    }
}

/// <summary>VQ-GAN's own full-size files.</summary>
sealed class TamingLayouts : ILayoutAdapter
{
    internal static bool IsTaming(ParityLayout layout) => layout.Architecture is "VQModel" or "GumbelVQ" && layout.Config.TryGetProperty("ddconfig", out _);

    public bool Matches(ParityLayout layout) => IsTaming(layout);

    public Module Build(ParityLayout layout) => layout.Architecture == "GumbelVQ" ? new GumbelVq(Config(layout).ToVq()) : new VqModel(Config(layout).ToVq());

    public IEnumerable<(string Key, long[] Shape)> Keys(Module model, ParityLayout layout) =>
        model.NamedParameters().Select(p => TamingVqgan.Original(p.Key, p.Parameter.Shape, Config(layout).Ddconfig.ChMult.Length));

    public bool Ignores(string key) => key.StartsWith("loss.", StringComparison.Ordinal);

    static TamingConfig Config(ParityLayout layout) => ModelConfig.Parse<TamingConfig>(layout.Config.GetRawText(), layout.Name);
}
