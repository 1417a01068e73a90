import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { openTpm, TpmError } from '../../../native/index.js'
import { startBareTpm } from '../../helpers/bare-swtpm.js'
import { bundled } from '../../helpers/program.js'

const UNREACHABLE = { code: 'TPM_UNREACHABLE' }
const DEADLINE_MS = 2_000
const EXIT_DURING_COMMAND = fileURLToPath(new URL('exit-during-command.ts', import.meta.url))

describe('opening', () => {
  test.each([
    'mssim:host=localhost',
    'cmd:/bin/sh',
    '/usr/lib/libtss2-tcti-cmd.so',
    'swtpm:host=10.0.0.1,port=2321',
    'swtpm:path=/run/a,port=1',
    'swtpm:path=relative',
    'device:/etc/passwd',
    'device:/dev/../etc/passwd',
    'device',
    '',
  ])('does not open %j', async (tcti) => {
    await expect(openTpm({ tcti })).rejects.toMatchObject({ code: 'TPM_TCTI' })
  })

  test('says where no TPM was found', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'sgl-'))
    try {
      const tcti = `swtpm:path=${folder}/sock`
      const error = await openTpm({ tcti }).catch((thrown: unknown) => thrown)
      expect(error).toBeInstanceOf(TpmError)
      expect(error).toMatchObject({
        ...UNREACHABLE,
        message: expect.stringContaining(`expected a TPM at ${tcti}, found none`),
      })
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })

  test('gives up a TPM that takes no commands, and opens it when it does', async () => {
    await using software = await startBareTpm()
    software.freeze()
    const opening = openTpm({ ...software, deadlineMs: 300 })
    await expect(opening).rejects.toMatchObject(UNREACHABLE)
    software.thaw()
    await using tpm = await openTpm(software)
    expect(await tpm.getRandom(8)).toHaveLength(8)
  })
})

describe('a TPM that is lost', () => {
  test('in the middle of a command, fails it and refuses what waits and what comes', async () => {
    await using software = await startBareTpm()
    const tpm = await openTpm(software)
    software.freeze()
    const calls = [tpm.getRandom(8), tpm.properties(), tpm.pcrRead('sha256', [0])]
    const outcomes = Promise.allSettled(calls)
    await software.kill()
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: UNREACHABLE })
    }
    await expect(tpm.getRandom(8)).rejects.toMatchObject(UNREACHABLE)
    await tpm[Symbol.asyncDispose]()
    await tpm[Symbol.asyncDispose]()
    await expect(tpm.getRandom(8)).rejects.toMatchObject(UNREACHABLE)
  })

  test('between commands, fails the next one; opened anew it works', async () => {
    await using software = await startBareTpm()
    {
      await using tpm = await openTpm(software)
      await software.kill()
      await expect(tpm.getRandom(8)).rejects.toMatchObject(UNREACHABLE)
      await expect(tpm.getRandom(8)).rejects.toMatchObject(UNREACHABLE)
    }
    await software.restart()
    await using tpm = await openTpm(software)
    expect(await tpm.getRandom(8)).toHaveLength(8)
  })

  test('without a word, is given up at the deadline and closed at once; its connection ends when it can', async () => {
    await using software = await startBareTpm()
    const tpm = await openTpm({ ...software, deadlineMs: DEADLINE_MS })
    software.freeze()
    await expect(tpm.getRandom(8)).rejects.toMatchObject(UNREACHABLE)
    const started = performance.now()
    await expect(tpm.getRandom(8)).rejects.toMatchObject(UNREACHABLE)
    await tpm[Symbol.asyncDispose]()
    expect(performance.now() - started).toBeLessThan(DEADLINE_MS)
    software.thaw()
    // swtpm serves one connection at a time: this one only when the other has ended
    await using again = await openTpm(software)
    expect(await again.getRandom(8)).toHaveLength(8)
  })

  test('does not keep the process from exiting', async () => {
    await using software = await startBareTpm()
    const host = spawn(process.execPath, [bundled(EXIT_DURING_COMMAND), software.tcti], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(host.stdout, 'data')
    software.freeze()
    host.kill('SIGTERM')
    const [code] = await once(host, 'exit')
    expect(code).toBe(7)
  })
})

describe('a TPM that was closed', () => {
  test('finishes what was asked before, and refuses what comes after', async () => {
    await using software = await startBareTpm()
    const tpm = await openTpm(software)
    const before = tpm.getRandom(8)
    const closing = tpm[Symbol.asyncDispose]()
    const after = tpm.getRandom(8)
    const again = tpm[Symbol.asyncDispose]()
    const refused = expect(after).rejects.toMatchObject(UNREACHABLE)
    expect(await before).toHaveLength(8)
    await refused
    await closing
    await again
  })
})
