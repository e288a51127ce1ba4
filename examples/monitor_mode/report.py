"""What the policy would have stopped, or asked a human about, so far."""

from aegis_otel import connect

print(
    connect().sql(
        """
        select approval as would, matched_rule as rule, action_type as tool, action_params as arguments
        from audit
        where mode = 'monitor' and approval in ('block', 'approve')
        order by timestamp
        """
    )
)
