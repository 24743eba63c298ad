"""The `auterity` command: which commands there are. Each is loaded when it is called."""

import os
import sys

from cyclopts import App, CycloptsError

from auterity import __version__
from auterity.cli.output import FAILED, Problem, complain

app = App(name="auterity", version=__version__, help="Integrations as Kubernetes custom resources.")

# One module a command, named like it. `--help` reads only the words given here.
app.command("auterity.cli.run:run", help="Run the operator, with KUBECONFIG or in a cluster.")
app.command("auterity.cli.check:app", name="check", help="Validate manifests without a cluster.")
app.command("auterity.cli.plan:app", name="plan", help="Show what would change at the vendors.")
app.command("auterity.cli.imports:app", name="import", help="Write manifests of what exists.")
app.command("auterity.cli.crds:crds", help="Print or write the CustomResourceDefinitions.")
app.command("auterity.cli.providers:providers", help="List kinds, vendors and their proof.")
app.command("auterity.cli.why:why", help="Tell why an object is not ready, and what to do.")
app.command("auterity.cli.tree:tree", help="Show an object and all that belongs to it.")
app.command("auterity.cli.doctor:doctor", help="Check the cluster, the operator and its rights.")
app.command("auterity.cli.acts:approve", help="Approve the plan that waits, after showing it.")
app.command("auterity.cli.acts:reconcile", help="Have an object looked at now.")
app.command("auterity.cli.acts:suspend", help="Have the vendor left alone.")
app.command("auterity.cli.acts:resume", help="Have the vendor looked after again.")
app.command("auterity.cli.acts:forget", help="Let go of an object without a call to its vendor.")
app.command("auterity.cli.completion:completion", help="Print the script that completes commands.")
app.command("auterity.cli.demo:demo", help="See it work on this machine alone.")
app.command("auterity.cli.version:version", help="Print the version of this command.")


def main() -> None:
    """Entry point of the command. Exits with 0, or 1 where something failed."""
    try:
        app(sys.argv[1:], exit_on_error=False)
    except CycloptsError:
        # It has said what is wrong. Its own exit code would be that of CHANGES.
        sys.exit(FAILED)
    except Problem as problem:
        complain(str(problem))
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has enough, such as `head`: nothing to tell, nothing to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:  # noqa: BLE001 - what was not foreseen is told too, without secrets
        from auterity.engine.redaction import frames_of, words_of

        # A traceback may quote values.
        where = "\n  ".join(frames_of(error)[-6:])
        complain(f"unforeseen: {type(error).__name__}: {words_of(error)}\n  {where}")
        sys.exit(FAILED)
