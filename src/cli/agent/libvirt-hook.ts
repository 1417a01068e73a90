/**
 * The QEMU hook of libvirt. Domains that are no VMs of Sigillo pass by it without a word to the agent; of those that are,
 * none starts when the agent does not answer.
 *
 * @see libvirt, "Hooks for specific system management", /etc/libvirt/hooks/qemu
 */
export const HOOK_SCRIPT = `#!/bin/sh
# QEMU hook of libvirt: asks sigillo-agent before a VM of Sigillo starts, and tells it when one has started or ended.
# It never calls libvirt, which waits for it. Install as /etc/libvirt/hooks/qemu.d/sigillo (mode 755).
case "$2/$3" in
  prepare/begin | started/begin | release/end) ;;
  *) exit 0 ;;
esac
xml=$(cat)
case "$xml" in
  *urn:sigillo:libvirt:1*) ;;
  *) exit 0 ;;
esac
printf '%s\\n' "$xml" | "\${SIGILLO_AGENT:-sigillo-agent}" libvirt hook "$1" "$2" "$3" "\${4:--}"
status=$?
# libvirt ends a VM whose hook fails after the start: what the agent did not hear of then is no reason for that
[ "$2" = prepare ] || exit 0
exit "$status"
`
