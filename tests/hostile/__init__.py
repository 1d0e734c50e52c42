"""Hostile inputs, made by code: nothing binary is stored."""
