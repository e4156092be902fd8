"""What tests share: servers, hosts, clusters and synthetic months. No test is in here."""
