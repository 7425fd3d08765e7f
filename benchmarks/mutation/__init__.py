"""Mutation testing of the core: are the tests able to fail?"""
