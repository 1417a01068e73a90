import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { Secret } from '../../../../src/core/secret.js'
import { Qmp } from '../../../../src/host-agent/vm/qmp.js'

const GREETING = '{"QMP": {"version": {}, "capabilities": []}}\n'

/** The other side of the conversation: answers each line that it gets. */
function createQemu(answer: (line: string) => string) {
  const [input, output] = [new PassThrough(), new PassThrough()]
  const lines: string[] = []
  input.write(GREETING)
  output.on('data', (chunk: Buffer) => {
    for (const line of chunk.toString().trim().split('\n')) {
      lines.push(line)
      input.write(line.includes('qmp_capabilities') ? '{"return": {}}\n' : answer(line))
    }
  })
  return { input, output, lines }
}

test('gives the answer to the command, whatever events come between', async () => {
  const { input, output } = createQemu(
    () => '{"event": "STOP", "timestamp": {}}\n{"return": {"status": "paused"}}\n',
  )
  await using qmp = await Qmp.open(input, output)
  expect(await qmp.execute('query-status')).toEqual({ status: 'paused' })
  expect(qmp.hasSeen('STOP')).toBe(true)
  expect(qmp.hasSeen('RESUME')).toBe(false)
})

test('reads an answer that comes octet by octet, as long as one may be', async () => {
  const { input, output } = createQemu(() => '')
  await using qmp = await Qmp.open(input, output)
  const answer = qmp.execute('query-status')
  const text = 'x'.repeat(1024 * 1024 - 100)
  for (const octet of `{"event": "STOP"}\n{"return": "${text}`) input.write(octet)
  input.write('"}\n')
  expect(await answer).toBe(text)
  expect(qmp.hasSeen('STOP')).toBe(true)
})

test('throws a refusal with the words of QEMU', async () => {
  const { input, output } = createQemu(() => '{"error": {"class": "x", "desc": "no such node"}}\n')
  await using qmp = await Qmp.open(input, output)
  await expect(qmp.execute('blockdev-del')).rejects.toMatchObject({
    ...{ code: 'VM_PROCESS', message: 'qemu refused blockdev-del: no such node' },
  })
})

test('sends a key as hexadecimal text of a secret object', async () => {
  const { input, output, lines } = createQemu(() => '{"return": {}}\n')
  await using qmp = await Qmp.open(input, output)
  await qmp.addSecret('key0', new Secret(Uint8Array.of(0x00, 0x9f, 0xab)))
  expect(JSON.parse(lines[1] ?? '')).toEqual({
    execute: 'object-add',
    arguments: { 'qom-type': 'secret', id: 'key0', data: '009fab' },
  })
})

test.each([
  ['ends', (input: PassThrough) => input.destroy()],
  ['does not speak JSON', (input: PassThrough) => input.write('hello\n')],
  ['writes a line without end', (input: PassThrough) => input.write('x'.repeat(1024 * 1024 + 1))],
])('a QEMU that %s is not waited for', async (_, misbehave) => {
  const { input, output } = createQemu(() => '')
  await using qmp = await Qmp.open(input, output)
  const answer = qmp.execute('query-status')
  misbehave(input)
  await expect(answer).rejects.toMatchObject({ code: 'VM_PROCESS' })
  await expect(qmp.execute('quit')).rejects.toMatchObject({ code: 'VM_PROCESS' })
})
