"""A Starlette application as each listener has one: its routes, and a problem for everything else."""

from starlette.applications import Starlette
from starlette.routing import Route

from cellward.server.problem import HANDLERS


def application(*routes: Route) -> Starlette:
    app = Starlette(routes=routes, exception_handlers=HANDLERS)
    app.router.redirect_slashes = False  # one name for one thing
    return app
