import { access, constants } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { messageOf } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import { type Programs, startConversation } from './programs.js'
import { Qmp } from './qmp.js'
import type { Accelerator } from './records.js'

const POLL_MS = 20
/** Firmware that cannot run dies within some 50 ms. */
const PROBE_MS = 1500

/** Files of OVMF. */
export interface Firmware {
  readonly code: string
  /** Template of the variables: each VM has a copy. */
  readonly variables: string
}

export const DEFAULT_FIRMWARE: Firmware = {
  code: '/usr/share/OVMF/OVMF_CODE_4M.fd',
  variables: '/usr/share/OVMF/OVMF_VARS_4M.fd',
}

/** Answers what VMs are run by: what is wanted, or for `auto` KVM where it works, which is found out once. */
export function createAcceleratorChoice(
  wanted: Accelerator | 'auto',
  deps: { readonly programs: Programs; readonly firmware: Firmware; readonly logger: Logger },
): () => Promise<Accelerator> {
  if (wanted !== 'auto') return () => Promise.resolve(wanted)
  const find = async (): Promise<Accelerator> => {
    const reason = await findKvmDefect(deps.programs, deps.firmware)
    if (reason === undefined) return 'kvm'
    deps.logger.warn({ event: 'vm.kvm-unusable', reason }, 'KVM does not work: VMs are emulated')
    return 'tcg'
  }
  let found: Promise<Accelerator> | undefined
  return () => {
    found ??= find()
    return found
  }
}

/**
 * Why KVM cannot run a guest on this host, or undefined when it can.
 *
 * Runs the firmware for a moment: that `/dev/kvm` is there and opens is no proof. Where it is emulated in part, QEMU
 * either ends or stops the guest with an internal error and stays.
 */
export async function findKvmDefect(
  programs: Programs,
  firmware: Firmware,
): Promise<string | undefined> {
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK)
  } catch (error) {
    return messageOf(error)
  }
  const child = startConversation(programs.qemuSystem, [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-S', '-m', '64', '-cpu', 'host'],
    ...['-machine', 'q35,accel=kvm,pflash0=code'],
    ...['-blockdev', JSON.stringify(firmwareNode(firmware))],
    ...['-chardev', 'stdio,id=qmp', '-mon', 'chardev=qmp,mode=control'],
  ])
  try {
    const started = new Promise<never>((_, reject) => child.once('error', reject))
    await using qmp = await Promise.race([started, Qmp.open(child.stdout, child.stdin)])
    await qmp.execute('cont')
    for (const end = performance.now() + PROBE_MS; performance.now() < end; await delay(POLL_MS)) {
      if (qmp.hasSeen('STOP')) return 'the guest stops with an internal error'
      if (qmp.hasEnded) return 'qemu ends'
    }
    return undefined
  } catch (error) {
    return messageOf(error)
  } finally {
    child.kill('SIGKILL')
  }
}

function firmwareNode(firmware: Firmware) {
  return { driver: 'file', filename: firmware.code, 'node-name': 'code', 'read-only': true }
}
