import { createRequire } from 'node:module'
import type * as FfiNapi from 'ffi-napi'
import type * as RefNapi from 'ref-napi'
import { messageOf, PlatformError } from '../src/core/errors.js'
import { lazily } from '../src/core/lazily.js'

/**
 * The door to ffi-napi and ref-napi: nothing outside this file names them, and replacing them touches this file alone.
 *
 * Pointers are addresses as numbers (user-space addresses fit 48 bits). Calls go through the entry that ffi-napi's own
 * functions call, with arguments in memory that is allocated once: ffi-napi's functions allocate some 25 buffers for each
 * call, and register each of them for collection, which halves the rate of quotes. Libraries are loaded at the first
 * call, so that a program which only might need a TPM starts on a machine without tpm2-tss.
 */

/** C types in signatures, of the machines that ffi-napi has binaries for: 64 bits, little-endian. */
export type CType = 'u8' | 'u16' | 'u32' | 'i32' | 'size' | 'pointer'

/** An argument: an integer or address, memory of ours (its address is passed), or `null`. */
export type CArgument = number | Memory | null

/** Arguments of each function, in the header's order. */
export type Signatures = Readonly<Record<string, readonly CType[]>>

/** Functions that run off the main thread and answer a 32-bit code. */
export type AsyncFunctions<S extends Signatures> = {
  readonly [name in keyof S]: (...args: readonly CArgument[]) => Promise<number>
}

/** Functions that are called at once and answer a 32-bit code. */
export type SyncFunctions<S extends Signatures> = {
  readonly [name in keyof S]: (...args: readonly CArgument[]) => number
}

/** Octets of ours that C reads and writes. They stay where they are as long as the object lives. */
export class Memory {
  readonly octets: Buffer
  #address: number | undefined

  /** Zeroed. Aligned for every C type. */
  constructor(length: number) {
    this.octets = Buffer.alloc(length)
  }

  get address(): number {
    this.#address ??= library().ref.address(this.octets)
    return this.#address
  }
}

/**
 * Binds functions that wait for something: each call runs on a thread of the pool.
 *
 * Memory that is passed is kept until the call returns. A call rejects with PlatformError `TPM_LIBRARY` where the
 * library is not installed.
 *
 * @param result `void`: the function has no result, and calls resolve to 0
 */
export function bindAsync<S extends Signatures>(
  soname: string,
  signatures: S,
  result: 'code' | 'void' = 'code',
): AsyncFunctions<S> {
  return mapNames(signatures, (name, types) => {
    const bound = lazily(() => new Bound(soname, name, types, result))
    return async (...args: readonly CArgument[]) => bound().callAsync(args)
  })
}

/** Binds functions that only compute: they run on the main thread, since a thread would cost more than the call. */
export function bindSync<S extends Signatures>(
  soname: string,
  signatures: S,
  result: 'code' | 'void' = 'code',
): SyncFunctions<S> {
  return mapNames(signatures, (name, types) => {
    const bound = lazily(() => new Bound(soname, name, types, result))
    return (...args: readonly CArgument[]) => bound().call(args)
  })
}

/** Binds a function from a code to text that C keeps. */
export function bindText(soname: string, name: string): (code: number) => string {
  const bound = lazily(() =>
    library().ffi.ForeignFunction(symbol(soname, name), 'string', ['uint32']),
  )
  return (code) => bound()(code) ?? ''
}

/** Sets a variable that C libraries read with `getenv`, unless it is set. Call it before their first call. */
export function setLibraryVariable(name: string, value: string): void {
  const setenv = library().ffi.ForeignFunction(symbol('libc.so.6', 'setenv'), 'int', [
    ...(['string', 'string', 'int'] as const),
  ])
  setenv(name, value, 0)
}

const FFI_TYPES = {
  u8: 'uint8',
  u16: 'uint16',
  u32: 'uint32',
  i32: 'int32',
  size: 'uint64',
  pointer: 'uint64',
} as const satisfies Readonly<Record<CType, string>>
const WORD = 8
const TWO_TO_32 = 2 ** 32

/** The part of ffi-napi that its public functions are made of. */
interface Bindings {
  ffi_call(cif: Buffer, code: Buffer, result: Buffer, args: Buffer): void
  ffi_call_async(
    cif: Buffer,
    code: Buffer,
    result: Buffer,
    args: Buffer,
    done: (error: string | null) => void,
  ): void
}

/**
 * Counts calls on threads. Node waits for its threads when it exits, and would wait for ever for a call that does not
 * return: where one is under way, the process leaves without waiting, with the exit code that it was to have.
 */
const underWay = {
  count: 0,
  prepared: false,
  begin(): void {
    this.count += 1
    if (this.prepared) return
    this.prepared = true
    const leave = library().ffi.ForeignFunction(symbol('libc.so.6', '_exit'), 'void', ['int'])
    process.on('exit', (code) => {
      if (this.count > 0) leave(code)
    })
  },
  end(): void {
    this.count -= 1
  },
}

/** One C function. */
class Bound {
  readonly #name: string
  readonly #types: readonly CType[]
  readonly #code: Buffer
  readonly #description: Buffer
  /** Frames that no running call uses. */
  readonly #frames: Frame[] = []

  constructor(soname: string, name: string, types: readonly CType[], result: 'code' | 'void') {
    const { ffi } = library()
    this.#name = name
    this.#types = types
    this.#code = symbol(soname, name)
    this.#description = ffi.CIF(
      ffi.types[result === 'code' ? 'uint32' : 'void'],
      types.map((type) => ffi.types[FFI_TYPES[type]]),
    )
  }

  call(args: readonly CArgument[]): number {
    const frame = this.#frameOf(args)
    library().bindings.ffi_call(this.#description, this.#code, frame.result, frame.pointers)
    return this.#resultOf(frame)
  }

  callAsync(args: readonly CArgument[]): Promise<number> {
    return new Promise((resolve, reject) => {
      const frame = this.#frameOf(args)
      underWay.begin()
      const done = (error: string | null): void => {
        underWay.end()
        if (error === null) resolve(this.#resultOf(frame))
        else reject(new Error(`${this.#name}: ${error}`))
      }
      library().bindings.ffi_call_async(
        ...([this.#description, this.#code, frame.result, frame.pointers, done] as const),
      )
    })
  }

  #frameOf(args: readonly CArgument[]): Frame {
    if (args.length !== this.#types.length) {
      throw new TypeError(`${this.#name} has ${this.#types.length} arguments, not ${args.length}`)
    }
    const frame = this.#frames.pop() ?? new Frame(this.#types.length)
    frame.fill(args)
    return frame
  }

  #resultOf(frame: Frame): number {
    const result = frame.result.readUInt32LE()
    frame.clear()
    this.#frames.push(frame)
    return result
  }
}

/** Where the arguments and the result of one call are. Integers take a word each, of which C reads the low octets. */
class Frame {
  readonly result = Buffer.alloc(WORD)
  readonly pointers: Buffer
  readonly #values: Buffer
  /** Keeps memory that C was given from being collected while C uses it. */
  held: readonly CArgument[] = []

  constructor(count: number) {
    // one octet at least: a buffer without any has no address
    const values = new Memory(Math.max(1, count * WORD))
    this.#values = values.octets
    this.pointers = Buffer.alloc(values.octets.length)
    for (let index = 0; index < count; index += 1) {
      writeWord(this.pointers, index, values.address + index * WORD)
    }
  }

  fill(args: readonly CArgument[]): void {
    this.held = args
    for (const [index, arg] of args.entries()) {
      writeWord(this.#values, index, arg instanceof Memory ? arg.address : (arg ?? 0))
    }
  }

  clear(): void {
    this.result.fill(0)
    this.held = []
  }
}

function writeWord(place: Buffer, index: number, value: number): void {
  place.writeInt32LE(value | 0, index * WORD)
  place.writeInt32LE(Math.floor(value / TWO_TO_32) | 0, index * WORD + 4)
}

interface Library {
  readonly ffi: typeof FfiNapi
  readonly ref: typeof RefNapi
  readonly bindings: Bindings
}

const library = lazily((): Library => {
  const require = createRequire(import.meta.url)
  return {
    ffi: require('ffi-napi') as typeof FfiNapi,
    ref: require('ref-napi') as typeof RefNapi,
    bindings: require('ffi-napi/lib/bindings.js') as Bindings,
  }
})

const libraries = new Map<string, FfiNapi.DynamicLibrary>()

function symbol(soname: string, name: string): Buffer {
  try {
    const opened = libraries.get(soname) ?? library().ffi.DynamicLibrary(soname)
    libraries.set(soname, opened)
    return opened.get(name)
  } catch (cause) {
    const message = `cannot load ${name} of ${soname}: ${messageOf(cause)}`
    throw new PlatformError('TPM_LIBRARY', message, { cause })
  }
}

function mapNames<S extends Signatures, F>(
  signatures: S,
  bind: (name: string, types: readonly CType[]) => F,
): { readonly [name in keyof S]: F } {
  return Object.fromEntries(
    Object.entries(signatures).map(([name, types]) => [name, bind(name, types)]),
  ) as { readonly [name in keyof S]: F }
}
