"""The assets: thin, over functions that know no Dagster."""
