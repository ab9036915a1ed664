using System.Text;
using System.Text.Json.Nodes;
using CsCheck;
using Panoptes.Core.Tests.Hostile;

namespace Panoptes.Generation.Tests.Schedulers;

public sealed class SchedulerConfigTests
{
    public static TheoryData<string> ClassNames => [.. Scheduler.ClassNames];

    static string Least(string name) => $$"""{ "_class_name": "{{name}}", "mask_token_id": 3, "something_else": [1, 2] }""";

    [Theory, MemberData(nameof(ClassNames))]
    public void A_scheduler_is_written_as_it_was_read(string name)
    {
        var folder = Directory.CreateTempSubdirectory().FullName;
        try
        {
            var read = Scheduler.Parse(Least(name), "test");
            Assert.Equal(name, read.ClassName);
            read.Save(Path.Combine(folder, "scheduler"));
            var again = Scheduler.Load(folder);
            Assert.Equal(read.GetType(), again.GetType());
            Assert.Equal(read.ToJson(), again.ToJson());
            Assert.Contains("something_else", again.ToJson());
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Theory]
    [InlineData("DDIMScheduler", "\"beta_schedule\": \"cosine\"", "beta_schedule is cosine")]
    [InlineData("DDIMScheduler", "\"prediction_type\": \"flow_prediction\"", "prediction_type")]
    [InlineData("PNDMScheduler", "\"prediction_type\": \"sample\"", "prediction_type")]
    [InlineData("DDIMInverseScheduler", "\"timestep_spacing\": \"linspace\"", "timestep_spacing")]
    [InlineData("DDPMScheduler", "\"variance_type\": \"none\"", "variance_type")]
    [InlineData("DDPMScheduler", "\"beta_start\": -1", "beta_start")]
    [InlineData("DDPMScheduler", "\"beta_start\": \"a\"", "beta_start")]
    [InlineData("DDPMScheduler", "\"num_train_timesteps\": 0", "num_train_timesteps")]
    [InlineData("DDPMScheduler", "\"num_train_timesteps\": 16000000", "num_train_timesteps")]
    [InlineData("DDPMScheduler", "\"trained_betas\": [0.1, 0.2]", "trained_betas")]
    [InlineData("DDPMScheduler", "\"steps_offset\": 5000", "steps_offset")]
    [InlineData("EulerDiscreteScheduler", "\"use_karras_sigmas\": true, \"use_beta_sigmas\": true", "Only one of use_karras_sigmas")]
    [InlineData("EulerDiscreteScheduler", "\"final_sigmas_type\": \"last\"", "final_sigmas_type")]
    [InlineData("EulerDiscreteScheduler", "\"sigma_max\": Infinity", "sigma_max")]
    [InlineData("EulerAncestralDiscreteScheduler", "\"prediction_type\": \"sample\"", "prediction_type")]
    [InlineData("DPMSolverMultistepScheduler", "\"algorithm_type\": \"dpmsolver\"", "final_sigmas_type")]
    [InlineData("DPMSolverMultistepScheduler", "\"algorithm_type\": \"sde-dpmsolver\", \"final_sigmas_type\": \"sigma_min\", \"solver_order\": 3", "solver_order")]
    [InlineData("DPMSolverMultistepScheduler", "\"solver_order\": 4", "solver_order")]
    [InlineData("DPMSolverMultistepScheduler", "\"solver_type\": \"euler\"", "solver_type")]
    [InlineData("DEISMultistepScheduler", "\"algorithm_type\": \"sde-dpmsolver++\"", "algorithm_type")]
    [InlineData("UniPCMultistepScheduler", "\"solver_p\": {}", "solver_p")]
    [InlineData("UniPCMultistepScheduler", "\"shift_terminal\": 0.1", "use_flow_sigmas")]
    [InlineData("FlowMatchEulerDiscreteScheduler", "\"shift\": 0", "shift")]
    [InlineData("FlowMatchEulerDiscreteScheduler", "\"time_shift_type\": \"cubic\"", "time_shift_type")]
    [InlineData("AmusedScheduler", "\"masking_schedule\": \"sine\"", "masking_schedule")]
    [InlineData("TCDScheduler", "\"eta\": 1", "_class_name is TCDScheduler")]
    public void A_value_that_is_not_supported_is_named(string name, string field, string said)
    {
        var message = Assert.Throws<PanoptesException>(() => Scheduler.Parse($$"""{ "_class_name": "{{name}}", "mask_token_id": 3, {{field}} }""", "scheduler_config.json")).Message;
        Assert.Contains(said, message);
        Assert.StartsWith("scheduler_config.json", message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_text_that_does_not_end_is_refused_at_once()
    {
        // Half a million escaped quotes: what begins a search at each of them would take hours.
        var endless = "{\"_class_name\": \"" + string.Concat(Enumerable.Repeat("\\\"", 500_000));
        Assert.Contains("no JSON object", Assert.Throws<PanoptesException>(() => Scheduler.Parse(endless, "endless")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Settings_that_give_no_noise_level_are_named_before_a_step_is_taken()
    {
        var flow = new FlowMatchEulerScheduler { UseDynamicShifting = true, BaseImageSeqLen = 256, MaxImageSeqLen = 256 };
        Assert.Contains("FlowMatchEulerDiscreteScheduler give step 1 of 4 no noise level", Assert.Throws<PanoptesException>(() => flow.Start(4, new() { Mu = flow.ShiftOf(1024) })).Message, StringComparison.Ordinal);
        Assert.Contains("no noise level that is a number", Assert.Throws<PanoptesException>(() => new EulerScheduler { UseExponentialSigmas = true, SigmaMin = 0 }.Start(4)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_sentence_says_numbers_alike_in_every_culture()
    {
        var before = Thread.CurrentThread.CurrentCulture;
        var comma = (System.Globalization.CultureInfo)System.Globalization.CultureInfo.InvariantCulture.Clone();
        comma.NumberFormat.NumberDecimalSeparator = ",";
        Thread.CurrentThread.CurrentCulture = comma;
        try
        {
            Assert.Equal("0,5", $"{0.5}");
            Assert.Contains("shift_terminal is 1.5; expected 0 to 0.999", Assert.Throws<PanoptesException>(() => new FlowMatchEulerScheduler { ShiftTerminal = 1.5 }.Start(4)).Message, StringComparison.Ordinal);
        }
        finally
        {
            Thread.CurrentThread.CurrentCulture = before;
        }
    }

    [Fact]
    public void Damaged_files_give_one_sentence_or_a_scheduler_that_runs_or_says_why_not()
    {
        byte[][] seeds = [.. Scheduler.ClassNames.Select(n => Encoding.UTF8.GetBytes(JsonNode.Parse(Scheduler.Parse(Least(n), "seed").ToJson().Replace("-Infinity", "-10", StringComparison.Ordinal))!.ToJsonString()))];
        var before = LiveTensors.Settle();
        Mutation.OfJson(seeds).Sample(bytes =>
        {
            try
            {
                if (Scheduler.Parse(Encoding.UTF8.GetString(bytes), "damaged") is not DiffusionScheduler scheduler) return;
                var run = scheduler.Start(4, new() { Mu = scheduler is FlowMatchEulerScheduler ? 1 : null });
                using var sample = ones(1, 2, 2, 2);
                using var step = run.Step(0, run.Scheduler is DdpmScheduler { VarianceType: "learned" or "learned_range" } ? ones(1, 4, 2, 2) : sample, sample, SchedulerState.Empty, new Generator(1));
            }
            catch (PanoptesException e)
            {
                Assert.DoesNotContain('\n', e.Message);
            }
        }, iter: 1500, threads: 1);
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void Another_class_takes_over_what_was_given_and_keeps_its_own_defaults_else()
    {
        var pndm = Scheduler.Parse("""{ "_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "skip_prk_steps": true, "steps_offset": 1, "clip_sample": false }""", "test");
        var ddim = pndm.As<DdimScheduler>();
        Assert.Equal((0.00085, "scaled_linear", 1L, false, true), (ddim.BetaStart, ddim.BetaSchedule, ddim.StepsOffset, ddim.ClipSample, ddim.SetAlphaToOne));
        Assert.Equal("linspace", pndm.As<EulerScheduler>().TimestepSpacing);
        // A value that is said takes effect even where it is the first class's default, and what a class does not know is not lost on the way.
        var said = Scheduler.Parse("""{ "_class_name": "PNDMScheduler", "timestep_spacing": "leading", "skip_prk_steps": true }""", "test");
        Assert.Equal("leading", said.As<EulerScheduler>().TimestepSpacing);
        Assert.True(said.As<EulerScheduler>().As<PndmScheduler>().SkipPrkSteps);
        // As do values that were set in code.
        Assert.Equal(3, (new DpmMultistepScheduler { SolverOrder = 3 }).As<UniPcScheduler>().SolverOrder);
    }

    [Fact]
    public void Fields_that_the_peer_marks_as_defaults_are_not_taken_over()
    {
        var pndm = Scheduler.Parse("""{ "_class_name": "PNDMScheduler", "timestep_spacing": "leading", "_use_default_values": ["timestep_spacing"] }""", "test");
        Assert.Equal("linspace", pndm.As<EulerScheduler>().TimestepSpacing);
    }

    [Fact]
    public void Samplers_go_by_their_names_where_they_can_follow_the_model()
    {
        var sdxl = new EulerScheduler { BetaStart = 0.00085, BetaEnd = 0.012, BetaSchedule = "scaled_linear", TimestepSpacing = "leading", StepsOffset = 1 };
        foreach (var sampler in Samplers.All.Where(static s => s.Name != "flow")) Assert.Equal(sampler.Scheduler, sdxl.Using(sampler.Name).GetType());
        var karras = (DpmMultistepScheduler)sdxl.Using("dpmpp-2m-sde-karras");
        Assert.Equal((true, "sde-dpmsolver++", 0.012), (karras.UseKarrasSigmas, karras.AlgorithmType, karras.BetaEnd));
        Assert.False(((DpmMultistepScheduler)karras.Using("dpmpp-2m")).UseKarrasSigmas);
        Assert.Contains("dpmpp-2m-karras", Assert.Throws<PanoptesException>(() => sdxl.Using("dpm++")).Message);
        Assert.Contains("flow", Assert.Throws<PanoptesException>(() => sdxl.Using("flow")).Message);

        var flow = new FlowMatchEulerScheduler { Shift = 3 };
        var solver = (DpmMultistepScheduler)flow.Using("dpmpp-2m");
        Assert.Equal(("flow_prediction", true, 3.0), (solver.PredictionType, solver.UseFlowSigmas, solver.FlowShift));
        Assert.Equal(typeof(UniPcScheduler), solver.Using("unipc").GetType());
        Assert.Contains("unipc", Assert.Throws<PanoptesException>(() => flow.Using("euler-a")).Message);
    }

    [Fact]
    public void What_a_scheduler_does_not_take_is_refused()
    {
        Assert.Contains("1 to 1000", Assert.Throws<PanoptesException>(() => new DdimScheduler().Start(1001)).Message);
        Assert.Contains("1 to 1000", Assert.Throws<PanoptesException>(() => new DdimScheduler().Start(0)).Message);
        Assert.Contains("DDIMScheduler", Assert.Throws<PanoptesException>(() => new DdimScheduler().Start(options: new() { Timesteps = [3, 2] })).Message);
        Assert.Contains("descend", Assert.Throws<PanoptesException>(() => new DdpmScheduler().Start(options: new() { Timesteps = [2, 3] })).Message);
        Assert.Contains("use_karras_sigmas", Assert.Throws<PanoptesException>(() => new EulerScheduler { UseKarrasSigmas = true }.Start(options: new() { Timesteps = [3, 2] })).Message);
        Assert.Contains("mu", Assert.Throws<PanoptesException>(() => new FlowMatchEulerScheduler { UseDynamicShifting = true }.Start(4)).Message);
        Assert.Contains("skip_prk_steps", Assert.Throws<PanoptesException>(() => new PndmScheduler().Start(3)).Message);
        Assert.Contains("teacher", Assert.Throws<PanoptesException>(() => new LcmScheduler().Start(51)).Message);
        Assert.Contains("steps_offset", Assert.Throws<PanoptesException>(() => new DdimScheduler { StepsOffset = 1 }.Start(1000)).Message);
        Assert.Contains("expected DDIMScheduler", Assert.Throws<PanoptesException>(() =>
        {
            var folder = Directory.CreateTempSubdirectory().FullName;
            new DdpmScheduler().Save(folder);
            try { Scheduler.Load<DdimScheduler>(folder); }
            finally { Directory.Delete(folder, recursive: true); }
        }).Message);
    }

    [Fact]
    public void The_quantiles_of_a_beta_distribution_are_exact()
    {
        // scipy.stats.beta.ppf(p, 0.6, 0.6)
        Assert.Equal(0.5, Grids.BetaQuantile(0.5, 0.6), 1e-12);
        Assert.Equal(0, Grids.BetaQuantile(0, 0.6));
        Assert.Equal(1, Grids.BetaQuantile(1, 0.6));
        Assert.Equal(0.03958440558878085, Grids.BetaQuantile(0.1, 0.6), 1e-10);
        Assert.Equal(0.7659829961247643, Grids.BetaQuantile(0.7, 0.6), 1e-10);
    }
}
