from mpitasks.launch.cli import main

main()
