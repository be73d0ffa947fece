"""Run every benchmark."""

from benchmarks import exactness, mobilenets, startup

if __name__ == "__main__":
    startup.main()
    mobilenets.main()
    exactness.main()
