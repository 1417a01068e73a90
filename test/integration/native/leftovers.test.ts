import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { openTpm } from '../../../native/index.js'
import { attestationKeyTemplate, STORAGE_PRIMARY_TEMPLATE } from '../../../src/tpm/index.js'
import { startBareTpm } from '../../helpers/bare-swtpm.js'
import { bundled } from '../../helpers/program.js'
import { handlesLeft, tpm2 } from './tpm2-tools.js'

const KILLED_HOST = fileURLToPath(new URL('killed-host.ts', import.meta.url))

test('what a killed process left makes room for the next, and what is in use is kept', async () => {
  await using software = await startBareTpm()
  const host = spawn(process.execPath, [bundled(KILLED_HOST), software.tcti])
  const [, signal] = await once(host, 'exit')
  expect(signal).toBe('SIGKILL')
  // one key, two sessions
  expect(await handlesLeft(software.tcti)).toHaveLength(3)
  {
    await using tpm = await openTpm(software)
    const parent = await tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
    expect(await tpm.flushLeftovers()).toBe(0)
    await tpm.create(parent, attestationKeyTemplate('ecc-p256'))
    expect(await tpm.getRandom(8)).toHaveLength(8)
  }
  expect(await handlesLeft(software.tcti)).toEqual([])
})

test('what another program left is flushed when it is asked for, and counted', async () => {
  await using software = await startBareTpm()
  const folder = await mkdtemp(join(tmpdir(), 'sgl-'))
  try {
    await tpm2('createprimary', ['-C', 'e', '-c', join(folder, 'primary.ctx')], software.tcti)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  await using tpm = await openTpm(software)
  await tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
  expect(await tpm.flushLeftovers()).toBe(1)
  expect(await tpm.flushLeftovers()).toBe(0)
})

test('keys that were not flushed are, when the TPM is closed', async () => {
  await using software = await startBareTpm()
  {
    await using tpm = await openTpm(software)
    await tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
    await tpm.createPrimary('owner', STORAGE_PRIMARY_TEMPLATE)
  }
  expect(await handlesLeft(software.tcti)).toEqual([])
})
