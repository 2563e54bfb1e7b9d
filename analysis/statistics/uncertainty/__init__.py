"""What fresh seeds tell of a front: means with intervals, ties, attainment, the winner's curse."""
