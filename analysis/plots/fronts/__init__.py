"""Draw fronts: of one study or several, with bounds and what fresh seeds say."""
