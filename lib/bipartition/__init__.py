"""Companion to Choi & Hong 2021: cut a photograph in two, let a classifier say which half is the object."""
