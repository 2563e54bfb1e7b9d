"""Turns a recipe into trials, and remembers what came of them.

`plans` says what a study is, `samplers` what to try next, `schedulers` what to stop early, `record`
what happened. `execution` runs all that on Ray, and `tracking` shows it in MLflow. The modules
beside these folders are the commands of `python -m search`.
"""
