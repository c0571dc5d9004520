"""What a build learns from validation edges: a strategy's weights, the rescoring, which strategy answers by default."""
