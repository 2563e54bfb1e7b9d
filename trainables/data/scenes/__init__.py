"""Makes the procedural indoor scenes: geometry, layout, textures and exact ray casting."""
