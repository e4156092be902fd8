"""The settings as a resource: the UI shows the connected services without secrets."""

from urllib.parse import urlsplit

import dagster as dg

from taxi_orchestration.instance.dagster_internals import ConfigurableResourceFactory
from taxi_orchestration.instance.processes import this_process
from taxi_orchestration.instance.run_tags import named_months, schema_tag
from taxi_orchestration.settings import Settings


class SettingsResource(ConfigurableResourceFactory[Settings]):
    """The services and directories beside the warehouse, from the environment variables."""

    tlc_host: str
    alerts: str
    ui: str
    home: str
    environment: dg.ResourceDependency[Settings]

    def create_resource(self, context: dg.InitResourceContext) -> Settings:
        """Return the settings, and add to every run the tags of its process, its student's schema and its months.

        Every step requires this resource, however its run was launched.
        """
        if context.run and context.instance:
            run = context.run
            tags = this_process(run.run_id).tags() | schema_tag(self.environment.schema_name) | named_months(run)
            context.instance.add_run_tags(run.run_id, tags)
        return self.environment


def build_settings_resource(settings: Settings) -> SettingsResource:
    """Build the resource that provides `settings` and shows those that are not secret."""
    # Only the kind of a service is shown: the rest of its address holds tokens.
    kinds = sorted({urlsplit(url.get_secret_value()).scheme for url in settings.alert_urls})
    return SettingsResource(
        tlc_host=settings.tlc_base_url,
        alerts=", ".join(kinds) or "none: TAXI_ALERT_URLS is not set",
        ui=settings.taxi_ui_url,
        home=str(settings.taxi_home),
        environment=build_given_resource(settings, "The environment variables, validated."),
    )


def build_given_resource(given: object, description: str) -> dg.ResourceDefinition:
    """Build a resource that provides an object of this process."""

    # Not Dagster's hardcoded_resource: the UI shows the name of the function, and there it is "<lambda>".
    def given_object(context: dg.InitResourceContext) -> object:
        return given

    return dg.ResourceDefinition(given_object, description=description)
