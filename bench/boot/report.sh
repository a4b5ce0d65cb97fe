# Tells, once systemd has nothing more to start, when multi-user.target was
# reached and how much memory is in use, and switches the machine off.
state=$(systemctl is-system-running --wait)
while read -r key kib _; do
  case $key in
  (MemTotal:) total=$kib ;;
  (MemAvailable:) available=$kib ;;
  esac
done < /proc/meminfo
ready=$(systemctl show --value --property=ActiveEnterTimestampMonotonic multi-user.target)
pid1=$(systemctl show --value --property=UserspaceTimestampMonotonic)
# Nobody hangs up the kernel's log; level 1 reaches the console whatever its
# limit is.
echo "<1>bench: state=$state pid1_usec=$pid1 ready_usec=$ready memory_kib=$((total - available))" > /dev/kmsg
if [ "$state" != running ]; then
  systemctl --failed --no-legend --plain | while read -r unit _; do echo "<1>bench: failed $unit" > /dev/kmsg; done
fi
systemctl poweroff
