"""What the others are compared with, and whether that comparison can be trusted."""

from drills.harness import Place, drill, same


@drill("nothing goes wrong: another run of the same study, elsewhere")
def undisturbed(place: Place) -> str:
    project = place.fresh()
    project.snakemake()
    return same(project, place.finished)
