import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { afterEach, expect, test } from 'vitest'

const HARDEN = `
  import { hardenProcess } from './src/http/process.js'
  hardenProcess()
`
const WAIT = `
  process.stdout.write('umask ' + process.umask().toString(8) + ' ready')
  setInterval(() => undefined, 1000)
`

const children: ChildProcess[] = []

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
})

interface Program {
  readonly child: ChildProcess
  readonly output: () => string
  readonly errors: () => string
}

function run(script: string, ...nodeOptions: readonly string[]): Program {
  const args = [...nodeOptions, '--import', 'tsx', '--input-type=module', '-e', script]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  children.push(child)
  let output = ''
  let errors = ''
  child.stdout.on('data', (chunk) => {
    output += String(chunk)
  })
  child.stderr.on('data', (chunk) => {
    errors += String(chunk)
  })
  return { child, output: () => output, errors: () => errors }
}

test('SIGUSR1 opens the inspector of an ordinary program, and not of ours', async () => {
  const ordinary = run(WAIT)
  const ours = run(HARDEN + WAIT)
  for (const { output } of [ordinary, ours]) {
    await expect.poll(output, { timeout: 20_000 }).toContain('ready')
  }
  ordinary.child.kill('SIGUSR1')
  ours.child.kill('SIGUSR1')
  await expect.poll(ordinary.errors, { timeout: 20_000 }).toContain('Debugger listening')
  expect(ours.errors()).not.toContain('Debugger')
  expect(ours.child.exitCode).toBeNull()
  expect(ours.output()).toContain('umask 77')
})

test('a program whose inspector is open does not start', async () => {
  const { child, errors } = run(HARDEN + WAIT, '--inspect=127.0.0.1:0')
  const [status] = await once(child, 'exit')
  expect(status).not.toBe(0)
  expect(errors()).toContain('INSPECTOR_OPEN')
})

test('a signal closes what is open and ends with status 0; an error ends with status 1', async () => {
  const script = (after: string) => `
    import { runUntilSignal } from './src/http/process.js'
    import { createLogger } from './src/core/logger.js'
    const logger = createLogger({ name: 'test', level: 'info' })
    const close = async () => { process.stdout.write('closed') }
    runUntilSignal({ logger, graceMs: 2000, close })
    ${WAIT}
    ${after}
  `
  const stopped = run(script(''))
  await expect.poll(stopped.output, { timeout: 20_000 }).toContain('ready')
  const exit = once(stopped.child, 'exit')
  stopped.child.kill('SIGTERM')
  expect(await exit).toEqual([0, null])
  expect(stopped.output()).toContain('closed')
  expect(stopped.errors()).toContain('process.stopping')

  const failed = run(script("setTimeout(() => { throw new Error('boom') }, 1)"))
  expect(await once(failed.child, 'exit')).toEqual([1, null])
  expect(failed.output()).toContain('closed')
  expect(failed.errors()).toContain('boom')
})
