"""What class vectors are used for: each module a recipe of data and an `Edit`."""
