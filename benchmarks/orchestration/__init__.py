"""What a study costs beside training; raw Ray Tune is measured beside it."""
