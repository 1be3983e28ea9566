"""Data mixing: sources, composition, augmentation, labels, label blending and the batches they make."""
