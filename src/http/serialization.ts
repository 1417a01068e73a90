import serializerFactory from '@fastify/fast-json-stringify-compiler'
import type { FastifySerializerCompiler } from 'fastify'
import { lazily } from '../core/lazily.js'

const compile = serializerFactory()()

/**
 * Fastify's own serializers, each compiled when its route first answers: all of a service's together take longer than
 * everything else that it does to start.
 */
export const serializerCompiler: FastifySerializerCompiler<unknown> = (route) => {
  const serializer = lazily(() => compile({ ...route, httpStatus: route.httpStatus ?? 'default' }))
  return (data) => serializer()(data)
}
