"""Process proxies under test."""
