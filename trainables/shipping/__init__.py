"""Turns a trained model into files to take home: compact, exported, verified and measured."""
