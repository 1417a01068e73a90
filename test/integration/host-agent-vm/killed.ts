import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { bundled } from '../../helpers/program.js'
import type { TestHost } from './support.js'

const AGENT = fileURLToPath(new URL('./agent-to-kill.ts', import.meta.url))

/** Runs one operation in a process that kills itself without warning when this step begins. */
async function die(options: {
  readonly directory: string
  readonly kek: Uint8Array
  readonly operation: object
  readonly step: string
}): Promise<void> {
  const child: ChildProcess = spawn(process.execPath, [bundled(AGENT)], {
    stdio: ['pipe', 'inherit', 'inherit'],
  })
  child.stdin?.end(
    JSON.stringify({ ...options, kek: Buffer.from(options.kek).toString('base64url') }),
  )
  const [exitCode, signal] = await once(child, 'exit')
  if (signal !== 'SIGKILL') throw new Error(`step ${options.step} never came: exit ${exitCode}`)
}

export function createAndDie(host: TestHost, request: object, step: string): Promise<void> {
  return die({
    directory: host.directory,
    kek: host.keys.kek,
    operation: { create: request },
    step,
  })
}

export function startAndDie(host: TestHost, name: string, step: string): Promise<void> {
  return die({ directory: host.directory, kek: host.keys.kek, operation: { start: name }, step })
}

/** @param request of the policies, with the name of the VM */
export function applyPolicyAndDie(host: TestHost, request: object, step: string): Promise<void> {
  const operation = { applyPolicy: request }
  return die({ directory: host.directory, kek: host.keys.kek, operation, step })
}

export function changeAndDie(
  host: TestHost,
  operation:
    | 'encrypt'
    | 'decrypt'
    | 'recrypt'
    | 'clone'
    | 'addDisk'
    | 'addVtpm'
    | 'replaceCertificates',
  name: string,
  step: string,
): Promise<void> {
  return die({
    directory: host.directory,
    kek: host.keys.kek,
    operation: { [operation]: name },
    step,
  })
}

export function moveAndDie(
  host: { readonly directory: string; readonly kek: Uint8Array },
  operation:
    | { readonly export: { readonly name: string; readonly directory: string } }
    | { readonly import: string }
    | { readonly snapshot: object }
    | { readonly receive: string }
    | { readonly send: string },
  step: string,
): Promise<void> {
  return die({ ...host, operation, step })
}

export function attachAndDie(
  host: TestHost,
  vm: string,
  from: string,
  step: string,
): Promise<void> {
  const { directory, keys } = host
  return die({ directory, kek: keys.kek, operation: { attachDisk: { vm, from } }, step })
}

export function detachAndDie(host: TestHost, vm: string, step: string): Promise<void> {
  const { directory, keys } = host
  return die({ directory, kek: keys.kek, operation: { detachDisk: vm }, step })
}
