"""How much memory is free."""


def free_memory() -> float:
    """Bytes that this machine could still give, swap included; infinite where the system does not say (not Linux)."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            kibibytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in file)}
        return 1024 * (kibibytes["MemAvailable"] + kibibytes["SwapFree"])
    except (OSError, KeyError, ValueError, IndexError):
        return float("inf")
