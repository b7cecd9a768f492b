"""``medfocus embed``: embed the focused images, and the class prompts."""

from medfocus_pipeline import embedding
from medfocus_pipeline.commands.output import say, say_filled, say_problems
from medfocus_pipeline.commands.scan import open_project
from medfocus_pipeline.config import Runtime
from medfocus_pipeline.errors import counted
from medfocus_pipeline.profiles import EmbedPlan
from medfocus_pipeline.project.located import opened_of
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.stores.store import Store


def run(context: Context, plan: EmbedPlan, runtime: Runtime, *, strict: bool) -> int:
    """Compute the missing rows of every embedding store, and the missing texts.

    Args:
        plan: one encoder, one store for each focus mode.

    Returns:
        1 if `strict` and some image cannot be used, else 0.
    """
    project = open_project(context)
    embeddings = project.embeddings_of(plan)
    problems = project.dataset.problems
    filled = embeddings.fill(runtime)
    for one in filled:
        say_filled(one)
    if not filled:
        images = counted(len(project.dataset.files), "image is", "images are")
        say(f"embed: all {images} done, nothing to do")
    problems |= project.dataset.problems
    for store in opened_of(embeddings.locate().embeddings):
        say(f"store: {store.path}")
        say_out_of_sight(store, plan)
    say_problems(problems)
    return int(strict and bool(problems))


def say_out_of_sight(store: Store, plan: EmbedPlan) -> None:
    """Say how many regions the encoder hardly sees, if any."""
    count = embedding.out_of_sight(store)
    if count:
        images = counted(count, "image has its", "images have their")
        say(
            f"{images} region mostly outside what the encoder sees (fit "
            f"{plan.fit}, views {', '.join(plan.views)}). Better: --fit squeeze --views identity"
        )
