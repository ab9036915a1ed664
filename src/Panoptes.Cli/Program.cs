return await Panoptes.Cli.App.RunAsync(args);
