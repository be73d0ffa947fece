"""From data to a file of statistics: read samples, run the float network, count, save.

- ``preprocessing``: from a decoded picture to the array a network wants; the presets.
- ``dataset``: the contract of data sources, and which of their samples are taken.
- ``sources``: finding out what one was given.
- ``batches``: samples read ahead in threads and stacked.
- ``pictures``: pictures as samples, from a folder; ``archives``: from a tar or zip.
- ``arrays``: rows of arrays as samples; ``array_files``: of ``.npy`` and ``.npz`` files, one row at
  a time; ``array_folders``: of many files, and ONNX's test data.
- ``feeds``: dicts as onnxruntime is fed; ``data_functions``: from the user's own code.
- ``spool``, ``zip_members``: bytes at an offset, and how far unpacking may go.
- ``labels``: class labels from CSV, ``.npy`` or class folders, matched to the samples.
- ``image_metadata``: what a model's own metadata say about the pictures it wants.
- ``histogram``: counts in 65,536 fixed log-spaced buckets.
- ``counting``: which values of a large tensor are counted.
- ``statistics``: what is known of one tensor; merging is exact.
- ``table``: the statistics of all tensors and where they come from; ``table_file``: the members of
  the ``*.calib.npz`` file.
- ``collector``: the data through onnxruntime, once, in one or several parts.
- ``parts``, ``executors``: parts that workers share; ``checkpoint``: what is done so far, kept.

Adding a kind of source is adding a file that makes a ``PictureSource`` of other files or an
``ArraySource`` of other rows (or a class of its own: the protocol is ``dataset.Source``), and a
line in ``sources``.
"""
