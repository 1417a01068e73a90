import { execFile } from 'node:child_process'
import { parseArgs, promisify } from 'node:util'
import { median } from './turns.js'

/**
 * Measures how long commands take that ask nobody, and the processor time of each, beside Node with an empty program.
 * The turns are interleaved: what else the machine does slows all of them down.
 *
 * `npm run build && npm run bench:commands -- [--turns 11] [--json]`
 */
const run = promisify(execFile)
const { values } = parseArgs({
  options: { turns: { type: 'string', default: '11' }, json: { type: 'boolean', default: false } },
})
const turns = Number(values.turns)
if (!Number.isInteger(turns) || turns < 1) throw new TypeError('--turns: a whole number from 1')

const EMPTY = ['-e', '']
const COMMANDS: readonly (readonly string[])[] = [
  EMPTY,
  ['dist/src/cli/main.js', '--version'],
  ['dist/src/cli/main.js', '--help'],
  ['dist/src/cli/main.js', 'vm', 'list', '--help'],
  ['dist/src/cli/main.js', 'verify', 'vm', '--help'],
  ['dist/src/cli/agent-main.js', 'vm', 'list', '--help'],
  ['dist/src/cli/agent-main.js', 'libvirt', 'hook', '--help'],
]
/** A module that each process loads first: it tells at the end how much processor time the process took. */
const TELL = `data:text/javascript,process.on('exit',()=>{const{user,system}=process.cpuUsage();process.stderr.write('cpu '+(user+system)+'\\n')})`

const figures = COMMANDS.map((args) => ({ args, wallMs: [] as number[], cpuMs: [] as number[] }))
for (let turn = 0; turn < turns; turn += 1) {
  for (const { args, wallMs, cpuMs } of figures) {
    const started = performance.now()
    const { stderr } = await run(process.execPath, ['--import', TELL, ...args])
    wallMs.push(performance.now() - started)
    cpuMs.push(Number(/^cpu (\d+)$/m.exec(stderr)?.[1]) / 1000)
  }
}

const medians = figures.map(({ args, wallMs, cpuMs }) => ({
  command: args === EMPTY ? 'an empty program' : nameOf(args),
  wallMs: median(wallMs),
  cpuMs: median(cpuMs),
}))
if (values.json) process.stdout.write(`${JSON.stringify({ turns, figures: medians })}\n`)
else {
  for (const { command, wallMs, cpuMs } of medians) {
    const [wall, cpu] = [wallMs, cpuMs].map((ms) => `${String(ms).padStart(6)} ms`)
    process.stdout.write(`${command.padEnd(36)} ${wall}, of processors ${cpu}\n`)
  }
}

function nameOf([file = '', ...args]: readonly string[]): string {
  return [file.endsWith('agent-main.js') ? 'sigillo-agent' : 'sigillo', ...args].join(' ')
}
