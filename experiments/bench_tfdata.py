"""How fast tf.data reads a folder of JPEGs: run by another Python, that has TensorFlow and not us.

    PYTHON experiments/bench_tfdata.py FOLDER SIDE BATCH THREADS SECONDS

Decode and random resized crop as in TensorFlow's own ImageNet examples: a distorted box of 8 to 100% of the
area, `decode_and_crop_jpeg`, a bilinear resize, a flip. Prints pictures per second and milliseconds of processor time for each.
"""

import pathlib
import sys
import time


def dataset(paths: list[str], side: int, batch: int, threads: int):
    """Batches without end."""
    import tensorflow as tf  # pyrefly: ignore

    def picture(path):
        data = tf.io.read_file(path)
        box, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(data),
            tf.zeros((1, 0, 4)),
            min_object_covered=0.1,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.08, 1.0),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([box[:2], size[:2]], 0)
        image = tf.image.decode_and_crop_jpeg(data, window, channels=3)
        image = tf.image.random_flip_left_right(tf.image.resize(image, (side, side)))
        return tf.cast(image, tf.uint8)

    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    found = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths)).repeat()
    return found.map(picture, threads).batch(batch).prefetch(2).with_options(options)


def main() -> None:
    """Measures."""
    folder, side, batch, threads, seconds = sys.argv[1], *map(int, sys.argv[2:6])
    paths = sorted(str(path) for path in pathlib.Path(folder).rglob("*.jpg"))
    batches = iter(dataset(paths, side, batch, threads))
    next(batches)
    wall, busy, count = time.perf_counter(), time.process_time(), 0
    while (taken := time.perf_counter() - wall) < seconds:
        count += len(next(batches))
    print(count / taken, 1000 * (time.process_time() - busy) / count)


if __name__ == "__main__":
    main()
