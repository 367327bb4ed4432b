"""What tests share, one module a topic: docs/DESIGN.md says where what lies."""
