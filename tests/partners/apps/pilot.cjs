// The service that the gRPC-Web server and its client agree on, described here so that nothing has to be generated.
const { create, createFileRegistry } = require('@bufbuild/protobuf');
const {
  FieldDescriptorProto_Label: Label,
  FieldDescriptorProto_Type: Type,
  FileDescriptorProtoSchema,
} = require('@bufbuild/protobuf/wkt');

const method = (name, more = {}) => ({ name, inputType: '.harbour.Words', outputType: '.harbour.Words', ...more });

const file = create(FileDescriptorProtoSchema, {
  name: 'harbour.proto',
  package: 'harbour',
  syntax: 'proto3',
  messageType: [
    {
      name: 'Words',
      field: [{ name: 'text', jsonName: 'text', number: 1, type: Type.STRING, label: Label.OPTIONAL }],
    },
  ],
  service: [
    {
      name: 'Pilot',
      method: [
        method('Echo'),
        method('Tell', { serverStreaming: true }),
        method('GoOn'),
        method('Refuse'),
        method('Wait', { serverStreaming: true }),
        method('WasAbandoned'),
      ],
    },
  ],
});

exports.Pilot = createFileRegistry(file, () => undefined).getService('harbour.Pilot');
