"""From trained float networks to integer programs by rule."""
