"""The settings as a resource, so that the UI shows what is connected to what beside the warehouse, and no secret."""

from urllib.parse import urlsplit

import dagster as dg

from taxi_orchestration.instance.dagster_internals import ConfigurableResourceFactory
from taxi_orchestration.instance.processes import this_process
from taxi_orchestration.instance.run_tags import SCHEMA, named_months
from taxi_orchestration.settings import Settings


class SettingsResource(ConfigurableResourceFactory[Settings]):
    """What this project reads and writes beside the warehouse, as the variables of the environment say."""

    tlc_host: str
    alerts: str
    ui: str
    home: str
    environment: dg.ResourceDependency[Settings]

    def create_resource(self, context: dg.InitResourceContext) -> Settings:
        """Return the settings, which every step asks for: so here a run is marked, whoever started it.

        It gets the tags of its process, of its schema and, if of several months, of those.
        """
        if context.run and context.instance:
            run = context.run
            schema = {SCHEMA: self.environment.schema_name}
            context.instance.add_run_tags(run.run_id, this_process(run.run_id).tags() | schema | named_months(run))
        return self.environment


def build_settings_resource(settings: Settings) -> SettingsResource:
    """The resource that shows what of `settings` is no secret, and gives them to whoever asks."""

    def environment(context: dg.InitResourceContext) -> Settings:
        return settings

    # Of an address of a service only its kind is told: the rest holds tokens.
    kinds = sorted({urlsplit(url.get_secret_value()).scheme for url in settings.alert_urls})
    return SettingsResource(
        tlc_host=settings.tlc_base_url,
        alerts=", ".join(kinds) or "nobody",
        ui=settings.taxi_ui_url,
        home=str(settings.taxi_home),
        environment=dg.ResourceDefinition(environment),
    )


def build_given_resource(given: object, description: str) -> dg.ResourceDefinition:
    """A resource that is an object of this process."""

    def given_object(context: dg.InitResourceContext) -> object:
        return given

    return dg.ResourceDefinition(given_object, description=description)
