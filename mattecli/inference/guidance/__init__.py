"""What the user tells a network beside the picture: a trimap, a rough mask, the scene without its subject."""
