"""What our searcher, record and tracking cost beside raw Ray Tune."""
