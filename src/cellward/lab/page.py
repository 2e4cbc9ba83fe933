"""A campaign's page: one self-contained HTML file, from the template in its own folder."""

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

TEMPLATE = "report.html.j2"


def render(package: str, **values: object) -> str:
    """`package`: the one that has the template."""
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=select_autoescape(default_for_string=True, default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(values)
